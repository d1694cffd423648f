// Where a disk's content lies, as a picture.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "image/map.h"

namespace vhdkit::tools {

// The disk in the guest's order, row by row, in cells of equal size: at most 2048, however large
// it is. A cell shows each kind of content by its own colour, as wide as its part of the cell is
// (and never so narrow that it is not seen), and its bytes where it is pointed at.
class AllocationPicture final : public image::MapVisitor {
 public:
  // images: the paths of the chain, the child first; at least one.
  AllocationPicture(uint64_t disk_bytes, std::vector<std::string> images);
  void visit(const image::MapEntry& entry) override;
  // An SVG file.
  std::string svg() const;

 private:
  // Data of one image, or of all from the last of these depths on; zeroes; nothing.
  static constexpr size_t depth_count = 8;
  static constexpr size_t zeroes = depth_count;
  static constexpr size_t nothing = depth_count + 1;
  static constexpr size_t kind_count = depth_count + 2;
  using Bytes = std::array<uint64_t, kind_count>;  // by kind

  // Cells of a row that have one kind of content only, and the same.
  struct Run {
    size_t kind = nothing;
    size_t first = 0;
    size_t count = 0;
  };

  static size_t kind_of(const image::MapEntry& entry);
  std::string kind_name(size_t kind) const;
  uint64_t length_of(size_t cell) const;
  size_t row_count() const;
  double height() const;
  void draw_axes(class Svg& svg) const;
  void draw_row(Svg& svg, size_t row) const;
  void draw_run(Svg& svg, const Run& run) const;
  void draw_mixture(Svg& svg, size_t cell) const;
  void draw_legend(Svg& svg) const;
  std::string tip(size_t kind, uint64_t disk_offset, uint64_t bytes, uint64_t length) const;

  uint64_t disk_bytes_;
  uint64_t cell_bytes_;
  std::vector<std::string> images_;
  std::vector<Bytes> cells_;
  Bytes totals_{};
};

}  // namespace vhdkit::tools
