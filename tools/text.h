// Text for people: amounts, tables, paragraphs, and words from images made harmless.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "disk/description.h"

namespace vhdkit::tools {

// "512 bytes", "1.46 GiB": three significant digits.
std::string short_size_text(uint64_t bytes);
// "10 GiB (10737418240 bytes)"
std::string size_text(uint64_t bytes);
// "1 block", "3 blocks"
std::string count_text(uint64_t count, std::string_view noun);

// Control characters written out as \x1b: names from images must not steer a terminal or break a
// line.
std::string printable(std::string_view text);

// Words filled into lines that end at column `width` at most; all begin at column `indent`, where
// the first one already stands. A word that is longer stands alone. No newline at the end.
std::string wrapped(std::string_view words, size_t width, size_t indent);

// Columns as wide as their widest cell, two blanks between them; columns that are to be read as
// numbers stand right. The last column has no blanks behind it.
class Table {
 public:
  enum class Align : uint8_t { left, right };
  struct Column {
    std::string_view title;
    Align align = Align::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // REQUIRES: a cell for each column.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // Lines with their newlines, titles first.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "label: value" lines with all values in one column.
class Listing {
 public:
  void add(std::string label, std::string value) {
    lines_.push_back({std::move(label), std::move(value), {}});
  }
  // A label on a line of its own with the listing below it, indented.
  void add_section(std::string label, Listing inner);
  // Every field of a description: "block-size" is shown as "block size".
  void add_fields(const disk::Description& description);
  std::string text(size_t indent = 0) const;

 private:
  struct Line {
    std::string label;
    std::string value;  // several lines: each below the other
    std::vector<Listing> section;
  };
  std::vector<Line> lines_;
};

}  // namespace vhdkit::tools
