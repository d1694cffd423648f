#include "tools/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "support/checked.h"

namespace vhdkit::tools {
namespace {

constexpr std::string_view unit_names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

// Columns that the UTF-8 text takes: characters, not bytes.
size_t width_of(std::string_view text) {
  return size_t(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string blanks(size_t count) { return std::string(count, ' '); }

std::string label_of(std::string key) {
  std::ranges::replace(key, '-', ' ');
  return key;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "\n") + printable(line);
  return text;
}

// Puts a field of any type into a listing.
struct FieldAdder {
  Listing& listing;
  const std::string& key;

  void operator()(bool value) const { listing.add(label_of(key), value ? "yes" : "no"); }
  void operator()(uint64_t value) const { listing.add(label_of(key), std::to_string(value)); }
  void operator()(disk::Bytes value) const { listing.add(label_of(key), size_text(value.value)); }
  void operator()(const std::string& value) const { listing.add(label_of(key), printable(value)); }
  void operator()(const std::vector<std::string>& values) const {
    listing.add(label_of(key), values.empty() ? "none" : joined(values));
  }
  void operator()(const std::vector<disk::Description>& values) const {
    for (size_t i = 0; i < values.size(); ++i) {
      Listing inner;
      inner.add_fields(values[i]);
      listing.add_section(fmt::format("{} {}", label_of(key), i), std::move(inner));
    }
  }
};

}  // namespace

std::string short_size_text(uint64_t bytes) {
  if (bytes < KiB) return count_text(bytes, "byte");
  uint64_t unit = KiB;
  size_t name = 0;
  while (bytes / unit >= KiB && name + 1 < std::size(unit_names)) {
    unit *= KiB;
    ++name;
  }
  const double amount = double(bytes) / double(unit);
  // Three digits of 1000 to 1023 would come out as an exponent.
  if (amount >= 999.5) return fmt::format("{:.0f} {}", amount, unit_names[name]);
  return fmt::format("{:.3g} {}", amount, unit_names[name]);
}

std::string size_text(uint64_t bytes) {
  if (bytes < KiB) return short_size_text(bytes);
  return fmt::format("{} ({} bytes)", short_size_text(bytes), bytes);
}

std::string count_text(uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string printable(std::string_view text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = uint8_t(text[i]);
    const auto next = i + 1 < text.size() ? uint8_t(text[i + 1]) : uint8_t{0};
    // Terminals obey the characters U+0080 to U+009F too: in UTF-8 0xc2 and one more byte.
    const bool is_c1 = byte == 0xc2 && next >= 0x80 && next < 0xa0;
    if (byte < 0x20 || byte == 0x7f || is_c1) {
      shown += fmt::format("\\x{:02x}", is_c1 ? next : byte);
      i += is_c1 ? 1 : 0;
    } else {
      shown += char(byte);
    }
  }
  return shown;
}

std::string wrapped(std::string_view words, size_t width, size_t indent) {
  std::string text;
  size_t column = indent;
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find_first_of(" \n"));
    words.remove_prefix(std::min(words.size(), word.size() + 1));
    if (word.empty()) continue;
    if (!text.empty() && column + 1 + width_of(word) > width) {
      text += "\n" + blanks(indent);
      column = indent;
    } else if (!text.empty()) {
      text += ' ';
      ++column;
    }
    text += word;
    column += width_of(word);
  }
  return text;
}

std::string Table::text() const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(width_of(columns_[i].title));
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  const auto add_line = [&](const auto& cell_of) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string_view cell = cell_of(i);
      const size_t padding = widths[i] - width_of(cell);
      const bool is_right = columns_[i].align == Align::right;
      const bool is_last = i + 1 == columns_.size();
      if (is_right) text += blanks(padding);
      text += cell;
      if (!is_last) text += blanks((is_right ? 0 : padding) + 2);
    }
    text += '\n';
  };
  add_line([this](size_t i) { return columns_[i].title; });
  for (const auto& row : rows_) {
    assert(row.size() == columns_.size());
    add_line([&row](size_t i) { return std::string_view(row[i]); });
  }
  return text;
}

void Listing::add_section(std::string label, Listing inner) {
  lines_.push_back({std::move(label), "", {std::move(inner)}});
}

void Listing::add_fields(const disk::Description& description) {
  for (const disk::Description::Field& field : description.fields())
    std::visit(FieldAdder{*this, field.key}, field.value);
}

std::string Listing::text(size_t indent) const {
  size_t value_column = 0;
  for (const Line& line : lines_)
    if (line.section.empty()) value_column = std::max(value_column, width_of(line.label) + 2);
  std::string text;
  for (const Line& line : lines_) {
    text += blanks(indent) + line.label + ':';
    if (!line.section.empty()) {
      text += '\n' + line.section.front().text(indent + 2);
      continue;
    }
    text += blanks(value_column - width_of(line.label) - 1);
    for (const char c : line.value) {
      text += c;
      if (c == '\n') text += blanks(indent + value_column);
    }
    text += '\n';
  }
  return text;
}

}  // namespace vhdkit::tools
