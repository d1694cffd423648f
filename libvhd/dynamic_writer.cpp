#include "libvhd/dynamic_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "support/utf16.h"

namespace vhdkit::libvhd {
namespace {

// Where Hyper-V wants block data: on 4 KiB sectors of the disk below.
constexpr uint64_t data_alignment = 4 * KiB;
constexpr uint64_t table_offset = sizeof(Footer) + sizeof(DynamicHeader);
constexpr uint32_t no_place = ~uint32_t{0};
constexpr size_t table_piece_entries = 16 * KiB;

constexpr uint64_t bitmap_bytes_of(uint64_t block_bytes) {
  return align_up(block_bytes / sector_bytes / 8, sector_bytes);
}

}  // namespace

DynamicWriter::DynamicWriter(File& file, const HardDiskFooter& footer, uint32_t block_size_bytes,
                             const std::optional<ParentLink>& parent)
    : file_(file), footer_(footer), bitmap_bytes_(bitmap_bytes_of(block_size_bytes)) {
  const uint64_t block_count = ceil_div(footer.current_size_bytes, block_size_bytes);
  geometry_.size_bytes = footer.current_size_bytes;
  geometry_.read_only = false;
  header_.table_offset = table_offset;
  header_.max_table_entries = uint32_t(block_count);
  header_.block_size_bytes = block_size_bytes;
  places_.assign(block_count, no_place);
  metadata_end_ = table_offset + align_up(block_count * sizeof(be32), sector_bytes);
  if (parent) add_parent(*parent);
  first_data_ = align_up(metadata_end_ + bitmap_bytes_, data_alignment);
  stride_ = align_up(bitmap_bytes_, data_alignment) + block_size_bytes;
}

void DynamicWriter::add_parent(const ParentLink& parent) {
  header_.parent_unique_id = parent.unique_id;
  header_.parent_time_stamp = parent.time_stamp;
  header_.parent_name = parent.name;
  add_locator(platform_w2ru, parent.relative_path);
  add_locator(platform_w2ku, parent.absolute_path);
}

void DynamicWriter::add_locator(uint32_t platform_code, const std::string& path) {
  if (path.empty()) return;
  std::vector<std::byte> bytes = utf8_to_utf16(path, ByteOrder::little);
  const uint64_t room = align_up(bytes.size(), sector_bytes);
  // The room in bytes, as Windows stores it, and no terminating zero.
  header_.parent_locators.push_back({.index = uint32_t(locators_.size()),
                                     .platform_code = platform_code,
                                     .data_space = uint32_t(room),
                                     .data_length_bytes = uint32_t(bytes.size()),
                                     .data_offset = metadata_end_});
  locators_.push_back({.file_offset = metadata_end_, .bytes = std::move(bytes)});
  metadata_end_ += room;
}

// Where the next block's bitmap would be: Windows puts new blocks there and finds their data
// aligned. Facts: makevhdx, issue 5.
uint64_t DynamicWriter::footer_offset() const { return data_offset(placed_count_) - bitmap_bytes_; }

Result<uint64_t> DynamicWriter::place(uint64_t disk_offset, uint64_t length) {
  assert(length > 0 && range_fits(disk_offset, length, geometry_.size_bytes));
  const uint64_t block_index = disk_offset / header_.block_size_bytes;
  const uint64_t in_block = disk_offset % header_.block_size_bytes;
  assert(length <= header_.block_size_bytes - in_block);
  if (places_[block_index] == no_place) {
    const uint64_t sector = (data_offset(placed_count_) - bitmap_bytes_) / sector_bytes;
    if (sector >= unused_bat_entry)
      return fail(Errc::no_space,
                  fmt::format("{}: block {} would begin at sector {:#x}: a BAT entry has 32 bits",
                              file_.name(), block_index, sector));
    places_[block_index] = uint32_t(placed_count_++);
  }
  return data_offset(places_[block_index]) + in_block;
}

Async<void> DynamicWriter::finish() {
  const Footer footer = build_footer(footer_);
  const DynamicHeader header = build_dynamic_header(header_);
  const auto footer_bytes = bytes_of(footer);
  const auto header_bytes = bytes_of(header);
  CO_TRY(co_await file_.write(0, footer_bytes));
  CO_TRY(co_await file_.write(footer_.data_offset, header_bytes));
  CO_TRY(co_await write_table());
  for (const LocatorData& locator : locators_) {
    const std::span<const std::byte> bytes(locator.bytes);
    CO_TRY(co_await file_.write(locator.file_offset, bytes));
  }
  CO_TRY(co_await write_bitmaps());
  CO_TRY(co_await file_.write(footer_offset(), footer_bytes));
  co_return file_.resize(file_size_bytes());
}

// The table is padded to a whole sector with unused entries.
Async<void> DynamicWriter::write_table() {
  const size_t padded_count = align_up(places_.size(), sector_bytes / sizeof(be32));
  std::vector<be32> piece;
  for (size_t first = 0; first < padded_count; first += piece.size()) {
    piece.assign(std::min(table_piece_entries, padded_count - first), unused_bat_entry);
    for (size_t i = 0; i < piece.size() && first + i < places_.size(); ++i) {
      const uint32_t place_index = places_[first + i];
      if (place_index == no_place) continue;
      piece[i] = uint32_t((data_offset(place_index) - bitmap_bytes_) / sector_bytes);
    }
    const auto bytes = std::as_bytes(std::span(piece));
    const uint64_t file_offset = header_.table_offset + first * sizeof(be32);
    CO_TRY(co_await file_.write(file_offset, bytes));
  }
  co_return Result<void>();
}

// With the padding before it, which makes whole pages: those go into the page cache at once. What
// lies before the first one is written already.
Async<void> DynamicWriter::write_bitmaps() {
  std::vector<std::byte> padded(stride_ - header_.block_size_bytes);
  std::fill(padded.end() - bitmap_bytes_, padded.end(), std::byte{0xff});
  const std::span<const std::byte> pages(padded);
  const std::span bitmap = pages.last(bitmap_bytes_);
  for (uint64_t i = 0; i < placed_count_; ++i) {
    const std::span bytes = i == 0 ? bitmap : pages;
    const uint64_t file_offset = data_offset(i) - bytes.size();
    CO_TRY(co_await file_.write(file_offset, bytes));
  }
  co_return Result<void>();
}

}  // namespace vhdkit::libvhd
