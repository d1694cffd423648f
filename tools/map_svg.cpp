#include "tools/map_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "support/checked.h"
#include "tools/svg.h"
#include "tools/text.h"

namespace vhdkit::tools {
namespace {

constexpr size_t cells_in_row = 64;
constexpr size_t max_cells = cells_in_row * 32;
constexpr uint64_t smallest_cell_bytes = 4096;

constexpr double left = 90;
constexpr double top = 66;
constexpr double cell_width = 12;
constexpr double row_height = 12;
constexpr double row_step = 14;
constexpr double legend_step = 18;
constexpr double picture_width = left + cells_in_row * cell_width + 30;
// Of what is there, however little.
constexpr double smallest_width = 0.6;

// Told apart by people who see few colours, too; what is in no image stays white.
constexpr std::string_view colours[] = {"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9",
                                        "#d55e00", "#f0e442", "#555555", "#dddddd", "#ffffff"};

constexpr size_t longest_name = 70;  // bytes

std::string end_of(const std::string& path) {
  if (path.size() <= longest_name) return path;
  size_t begin = path.size() - longest_name;
  while (begin < path.size() && (path[begin] & 0xc0) == 0x80) ++begin;  // within a character
  return "\u2026" + path.substr(begin);
}

double left_of(size_t cell) { return left + double(cell % cells_in_row) * cell_width; }
double top_of(size_t cell) { return top + double(cell / cells_in_row) * row_step; }

}  // namespace

AllocationPicture::AllocationPicture(uint64_t disk_bytes, std::vector<std::string> images)
    : disk_bytes_(disk_bytes),
      cell_bytes_(std::max(smallest_cell_bytes, std::bit_ceil(ceil_div(disk_bytes, max_cells)))),
      images_(std::move(images)),
      cells_(ceil_div(disk_bytes, cell_bytes_)) {
  static_assert(std::size(colours) == kind_count);
}

size_t AllocationPicture::kind_of(const image::MapEntry& entry) {
  if (!entry.zero) return std::min<size_t>(entry.depth, depth_count - 1);
  return entry.present ? zeroes : nothing;
}

void AllocationPicture::visit(const image::MapEntry& entry) {
  assert(range_fits(entry.disk_offset, entry.length, disk_bytes_));
  const size_t kind = kind_of(entry);
  totals_[kind] += entry.length;
  const uint64_t end = entry.disk_offset + entry.length;
  for (uint64_t at = entry.disk_offset; at < end;) {
    const uint64_t cell = at / cell_bytes_;
    const uint64_t bytes = std::min(end - at, cell_bytes_ - at % cell_bytes_);
    cells_[cell][kind] += bytes;
    at += bytes;
  }
}

std::string AllocationPicture::kind_name(size_t kind) const {
  if (kind == zeroes) return "reads as zeroes";
  if (kind == nothing) return "not allocated";
  if (kind + 1 == depth_count && images_.size() > depth_count)
    return fmt::format("data, depth {} and deeper", kind);
  return fmt::format("data, depth {}", kind);
}

uint64_t AllocationPicture::length_of(size_t cell) const {
  return std::min(cell_bytes_, disk_bytes_ - cell * cell_bytes_);
}

size_t AllocationPicture::row_count() const { return ceil_div(cells_.size(), cells_in_row); }

double AllocationPicture::height() const {
  const size_t names = std::min(images_.size(), depth_count) + 2;
  return top + double(row_count()) * row_step + double(names + 1) * legend_step;
}

std::string AllocationPicture::svg() const {
  Svg svg(picture_width, height(), images_.front() + ": where its content lies");
  svg.heading(left, 20, end_of(images_.front()));
  svg.text(left, 38,
           fmt::format("{}; a cell is {}, a row {}", size_text(disk_bytes_),
                       short_size_text(cell_bytes_), short_size_text(cell_bytes_ * cells_in_row)));
  draw_axes(svg);
  for (size_t row = 0; row < row_count(); ++row) draw_row(svg, row);
  draw_legend(svg);
  return svg.finish();
}

// Above, how far into a row; to the left, where each begins.
void AllocationPicture::draw_axes(Svg& svg) const {
  for (size_t part = 0; part < 4; ++part) {
    const size_t cell = part * cells_in_row / 4;
    svg.text(left_of(cell), top - 6, part == 0 ? "0" : "+ " + short_size_text(cell * cell_bytes_));
  }
  for (size_t row = 0; row < row_count(); ++row)
    svg.text(left - 6, top_of(row * cells_in_row) + row_height - 2,
             row == 0 ? "0" : short_size_text(row * cells_in_row * cell_bytes_), Svg::Anchor::end);
}

void AllocationPicture::draw_row(Svg& svg, size_t row) const {
  const size_t begin = row * cells_in_row;
  const size_t end = std::min(begin + cells_in_row, cells_.size());
  Run run;
  for (size_t cell = begin; cell < end; ++cell) {
    const auto whole = std::ranges::find(cells_[cell], length_of(cell));
    if (whole == cells_[cell].end()) {
      draw_run(svg, run);
      run = {};
      draw_mixture(svg, cell);
      continue;
    }
    const auto kind = size_t(whole - cells_[cell].begin());
    if (run.count == 0 || run.kind != kind) {
      draw_run(svg, run);
      run = {.kind = kind, .first = cell, .count = 0};
    }
    ++run.count;
  }
  draw_run(svg, run);
  svg.frame({.x = left,
             .y = top_of(begin),
             .width = double(end - begin) * cell_width,
             .height = row_height});
}

void AllocationPicture::draw_run(Svg& svg, const Run& run) const {
  if (run.kind == nothing || run.count == 0) return;
  const uint64_t begin = run.first * cell_bytes_;
  const uint64_t length = std::min(run.count * cell_bytes_, disk_bytes_ - begin);
  svg.box({.x = left_of(run.first),
           .y = top_of(run.first),
           .width = cell_width * double(length) / double(cell_bytes_),
           .height = row_height},
          colours[run.kind], tip(run.kind, begin, length, length));
}

// The disk's last cell may be shorter, and so narrower.
void AllocationPicture::draw_mixture(Svg& svg, size_t cell) const {
  const Bytes& parts = cells_[cell];
  const uint64_t length = length_of(cell);
  const auto kinds = double(kind_count - size_t(std::ranges::count(parts, uint64_t{0})));
  const double width = cell_width * double(length) / double(cell_bytes_);
  const double shared_width = std::max(0.0, width - kinds * smallest_width);
  double x = left_of(cell);
  for (size_t kind = 0; kind < kind_count; ++kind) {
    if (parts[kind] == 0) continue;
    const double part = smallest_width + shared_width * double(parts[kind]) / double(length);
    if (kind != nothing)
      svg.box({.x = x, .y = top_of(cell), .width = part, .height = row_height}, colours[kind],
              tip(kind, cell * cell_bytes_, parts[kind], length));
    x += part;
  }
}

std::string AllocationPicture::tip(size_t kind, uint64_t disk_offset, uint64_t bytes,
                                   uint64_t length) const {
  return fmt::format("at {:#x}: {}: {} of {} bytes", disk_offset, kind_name(kind), bytes, length);
}

void AllocationPicture::draw_legend(Svg& svg) const {
  double y = top + double(row_count()) * row_step + legend_step;
  for (size_t kind = 0; kind < kind_count; ++kind) {
    if (kind < depth_count && kind >= images_.size()) continue;
    std::string words = fmt::format("{}: {}", kind_name(kind), size_text(totals_[kind]));
    if (kind < depth_count) words += "  " + end_of(images_[kind]);
    const Svg::Box swatch{.x = left, .y = y - 10, .width = cell_width, .height = row_height};
    svg.box(swatch, colours[kind], kind < depth_count ? images_[kind] : kind_name(kind));
    svg.frame(swatch);
    svg.text(left + 20, y, words);
    y += legend_step;
  }
}

}  // namespace vhdkit::tools
