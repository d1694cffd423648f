#include "libvhd/dynamic_layer.h"

#include <fmt/format.h>

#include <algorithm>

#include "async/task_group.h"
#include "libvhd/block_tables.h"
#include "libvhd/describe.h"
#include "libvhd/table_writer.h"

namespace vhdkit::libvhd {
namespace {

using disk::Extent;
using disk::ExtentKind;
using disk::ExtentList;

constexpr size_t bitmaps_at_once = 8;  // fewer than are kept
constexpr size_t extents_at_once = 4096;

}  // namespace

DynamicLayer::DynamicLayer(std::unique_ptr<File> file, DynamicImage image)
    : file_(std::move(file)),
      image_(std::move(image)),
      layout_(layout_of(image_.found.footer.size_bytes(), image_.found.footer.data_offset,
                        image_.header, image_.located, image_.found.content_end)),
      clear_kind_(image_.found.footer.type == DiskType::differencing ? ExtentKind::parent
                                                                     : ExtentKind::zero),
      pieces_(pieces_kept(layout_), sector_bytes) {
  geometry_.size_bytes = layout_.disk_bytes;
  if (image_.found.footer.type == DiskType::differencing)
    parent_ = parent_reference(image_.header, image_.located);
}

Async<void> DynamicLayer::resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  Range range{.disk_offset = disk_offset, .end = disk_offset + length};
  const size_t enough = extents.size() + extents_at_once;
  std::vector<Block> run;
  while (range.disk_offset < range.end && extents.size() < enough) {
    const uint64_t block_index = range.disk_offset / layout_.block_bytes;
    CO_TRY_LET(const TablePart part, co_await table_part(block_index));
    range.disk_offset = skip_unused(part, range, extents);
    CO_TRY(collect_run(part, range, run));
    CO_TRY(co_await read_bitmaps(run));
    for (const Block& block : run)
      if (extents.size() < enough) range.disk_offset = resolve_block(block, range, extents, enough);
  }
  co_return Result<void>();
}

// Returns how far it came: the first allocated block, or an end.
uint64_t DynamicLayer::skip_unused(const TablePart& part, Range range, ExtentList& extents) const {
  uint64_t at = range.disk_offset;
  for (uint64_t index = at / layout_.block_bytes;
       at < range.end && index < part.end_index && part.entry(index) == unused_bat_entry; ++index)
    at = std::min(range.end, (index + 1) * layout_.block_bytes);
  if (at > range.disk_offset)
    extents.append(
        {.disk_offset = range.disk_offset, .length = at - range.disk_offset, .kind = clear_kind_});
  return at;
}

// The allocated blocks that follow each other.
Result<void> DynamicLayer::collect_run(const TablePart& part, Range range,
                                       std::vector<Block>& run) const {
  run.clear();
  const uint64_t first = range.disk_offset / layout_.block_bytes;
  const uint64_t end =
      std::min({part.end_index, ceil_div(range.end, layout_.block_bytes), first + bitmaps_at_once});
  for (uint64_t index = first; index < end && part.entry(index) != unused_bat_entry; ++index) {
    TRY(check_entry(index, part.entry(index)));
    run.push_back({.index = index, .entry = part.entry(index)});
  }
  return {};
}

// What is not here is read at once: a bitmap is one small request, far from the next one.
Async<void> DynamicLayer::read_bitmaps(std::vector<Block>& run) {
  async::TaskGroup reads;
  for (Block& block : run) {
    const uint64_t file_offset = begin_of(block.entry);
    if (pieces_.find(file_offset) == nullptr) {
      reads.start(read_bitmap(block));
    } else {
      block.bitmap = pieces_.hold(file_offset);
    }
  }
  co_return co_await reads.finish();
}

Async<void> DynamicLayer::read_bitmap(Block& block) {
  const uint64_t file_offset = begin_of(block.entry);
  CO_TRY_LET(block.bitmap, co_await pieces_.read(*file_, file_offset, layout_.bitmap_bytes()));
  co_return Result<void>();
}

// Returns how far it came: the block's end, the range's, or where there are enough extents.
uint64_t DynamicLayer::resolve_block(const Block& block, Range range, ExtentList& extents,
                                     size_t enough) const {
  const uint64_t block_start = block.index * layout_.block_bytes;
  const uint64_t data_offset = begin_of(block.entry) + layout_.bitmap_bytes();
  const uint64_t end = std::min(range.end, block_start + layout_.block_bytes);
  const uint64_t end_sector = ceil_div(end - block_start, sector_bytes);
  uint64_t at = range.disk_offset;
  while (at < end && extents.size() < enough) {
    const uint64_t sector = (at - block_start) / sector_bytes;
    const bool here = bit_at(block.bitmap->bytes, sector);
    const uint64_t run_end = std::min(
        end, block_start + end_of_run(block.bitmap->bytes, sector, end_sector) * sector_bytes);
    extents.append({.disk_offset = at,
                    .length = run_end - at,
                    .kind = here ? ExtentKind::data : clear_kind_,
                    .file_offset = here ? data_offset + (at - block_start) : 0});
    at = run_end;
  }
  return at;
}

// The part of the BAT that holds the block's entry.
Async<DynamicLayer::TablePart> DynamicLayer::table_part(uint64_t block_index) {
  if (block_index >= layout_.table_entries)
    co_return fail(Errc::corrupt,
                   fmt::format("{}: {} is missing: the BAT has {} entries, the file room for {}",
                               file_->name(), entry_name(layout_, block_index),
                               image_.header.max_table_entries, layout_.table_entries));
  TablePart part{.first_index = align_down(block_index, entries_per_piece)};
  const async::FileRange piece = piece_of_entry(layout_, block_index);
  CO_TRY_LET(part.entries, co_await pieces_.read(*file_, piece.file_offset, piece.length));
  part.end_index = std::min(layout_.table_entries, part.first_index + piece.length / sizeof(be32));
  co_return part;
}

Result<void> DynamicLayer::check_entry(uint64_t block_index, uint32_t entry) const {
  const auto fault = entry_fault(layout_, block_index, entry);
  if (!fault) return {};
  return fail(Errc::corrupt,
              fmt::format("{}: {}: {}", file_->name(), entry_name(layout_, block_index),
                          fault_text(layout_, block_index, entry, *fault)));
}

std::optional<Extent> DynamicLayer::peek(uint64_t disk_offset, uint64_t length) {
  const uint64_t block_index = disk_offset / layout_.block_bytes;
  const auto entry = find_entry(layout_, pieces_, block_index);
  if (!entry) return std::nullopt;
  const uint64_t block_end = (block_index + 1) * layout_.block_bytes;
  Extent extent{.disk_offset = disk_offset,
                .length = std::min(length, block_end - disk_offset),
                .kind = clear_kind_};
  if (*entry == unused_bat_entry) return extent;
  const disk::TablePiece* const bitmap = pieces_.find(begin_of(*entry));
  if (bitmap == nullptr || entry_fault(layout_, block_index, *entry)) return std::nullopt;
  const uint64_t in_block = disk_offset % layout_.block_bytes;
  const uint64_t first = in_block / sector_bytes;
  const uint64_t end_sector = ceil_div(in_block + extent.length, sector_bytes);
  const uint64_t run_end = end_of_run(bitmap->bytes, first, end_sector) * sector_bytes;
  extent.length = std::min(extent.length, run_end - in_block);
  if (!bit_at(bitmap->bytes, first)) return extent;
  extent.kind = ExtentKind::data;
  extent.file_offset = begin_of(*entry) + layout_.bitmap_bytes() + in_block;
  return extent;
}

Async<void> DynamicLayer::audit() {
  BlockPlaces places(layout_);
  co_return co_await collect_places(places);
}

Async<void> DynamicLayer::make_writable() {
  CO_TRY(check_tables_can_change(*file_, layout_));
  BlockPlaces places(layout_);
  CO_TRY(co_await collect_places(places));
  CO_TRY_LET(UsedSpace use, co_await take_stock(*file_, layout_, places));
  const TableWriter::Image image{.file = *file_,
                                 .footer = image_.found,
                                 .layout = layout_,
                                 .pieces = pieces_,
                                 .has_parent = parent_.has_value()};
  writer_ = std::make_unique<disk::BlockWriter>(
      *file_, std::make_unique<TableWriter>(image, std::move(use)));
  co_return Result<void>();
}

Async<void> DynamicLayer::collect_places(BlockPlaces& places) {
  bool has_room = true;
  for (uint64_t index = 0; has_room && index < layout_.block_count();) {
    CO_TRY_LET(const TablePart part, co_await table_part(index));
    const uint64_t end = std::min(layout_.block_count(), part.end_index);
    for (; has_room && index < end; ++index) {
      const uint32_t entry = part.entry(index);
      if (entry == unused_bat_entry) continue;
      CO_TRY(check_entry(index, entry));
      has_room = places.add(index, entry);
    }
  }
  co_return check_apart(places);
}

Result<void> DynamicLayer::check_apart(BlockPlaces& places) const {
  const auto& sorted = places.sorted();
  for (size_t i = 1; i < sorted.size(); ++i) {
    const uint64_t begin = begin_of(sorted[i].sector);
    const uint64_t end_before = end_of_place(layout_, sorted[i - 1]);
    if (begin < end_before)
      return fail(Errc::corrupt,
                  fmt::format("{}: {}: sector {:#x} puts the block upon block {} (to {:#x})",
                              file_->name(), entry_name(layout_, sorted[i].block_index),
                              sorted[i].sector, sorted[i - 1].block_index, end_before));
  }
  return {};
}

disk::Description DynamicLayer::describe() const {
  disk::Description description = describe_footer(image_.found);
  describe_header(image_, description);
  describe_warnings(image_.found, image_.located, description);
  return description;
}

}  // namespace vhdkit::libvhd
