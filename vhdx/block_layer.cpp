#include "vhdx/block_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace vhdkit::vhdx {
namespace {

using disk::Extent;
using disk::ExtentKind;
using disk::ExtentList;

constexpr size_t extents_at_once = 4096;

}  // namespace

BlockLayer::BlockLayer(std::unique_ptr<File> file, OpenedImage image, ImageLayout layout)
    : file_(std::move(file)),
      image_(std::move(image)),
      layout_(std::move(layout)),
      absent_kind_(layout_.bat.has_parent ? ExtentKind::parent : ExtentKind::zero),
      tables_(*file_, layout_) {
  const Metadata& metadata = image_.metadata;
  geometry_.size_bytes = metadata.disk_size_bytes;
  geometry_.logical_sector_bytes = metadata.logical_sector_bytes;
  geometry_.physical_sector_bytes = metadata.physical_sector_bytes;
  if (metadata.parent_locator) parent_ = parent_reference(*metadata.parent_locator);
}

// Adds the blocks from disk_offset on whose entries lie in a hole of the file and so are zero;
// returns where they end.
Result<uint64_t> BlockLayer::append_hole(uint64_t disk_offset, uint64_t end, ExtentList& extents) {
  const BatLayout& bat = layout_.bat;
  TRY_LET(const std::optional<uint64_t> next,
          tables_.next_entry(bat.payload_index(disk_offset / bat.block_bytes)));
  uint64_t hole_end = end;
  if (next) hole_end = std::clamp(bat.block_of(*next) * bat.block_bytes, disk_offset, end);
  if (hole_end > disk_offset)
    extents.append(
        {.disk_offset = disk_offset, .length = hole_end - disk_offset, .kind = absent_kind_});
  return hole_end;
}

Async<void> BlockLayer::resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  const uint64_t end = disk_offset + length;
  const size_t enough = extents.size() + extents_at_once;
  Entries entries;
  Bits bits;
  while (disk_offset < end && extents.size() < enough) {
    const uint64_t block = disk_offset / layout_.bat.block_bytes;
    const uint64_t index = layout_.bat.payload_index(block);
    // Of a large disk, a range of many pieces is nearly all hole.
    if (!entries.have(index) && end - disk_offset > entries_per_piece * layout_.bat.block_bytes) {
      CO_TRY_LET(const uint64_t hole_end, append_hole(disk_offset, end, extents));
      if (std::exchange(disk_offset, hole_end) < hole_end) continue;
    }
    if (!entries.have(index)) {
      CO_TRY_LET(entries, co_await tables_.entries_at(index));
    }
    const uint64_t entry = entries.at(index);
    CO_TRY(tables_.check_entry(index, entry));
    if (is_partial(entry) && !bits.have(disk_offset / layout_.bat.logical_sector_bytes)) {
      CO_TRY_LET(bits, co_await tables_.bits_at(disk_offset));
    }
    const uint64_t block_end = (block + 1) * layout_.bat.block_bytes;
    const Part part{.block = block, .disk_offset = disk_offset, .end = std::min(end, block_end)};
    disk_offset = append_part(part, entry, bits, enough, extents);
  }
  co_return Result<void>();
}

uint64_t BlockLayer::append_part(const Part& part, uint64_t entry, const Bits& bits, size_t enough,
                                 ExtentList& extents) const {
  if (is_partial(entry))
    return append_by_bits(part, bat_file_offset_of(entry), bits, enough, extents);
  extents.append(extent_of(part, entry));
  return part.end;
}

// REQUIRES: the block is not partially present.
Extent BlockLayer::extent_of(const Part& part, uint64_t entry) const {
  const BlockState state = BlockState(bat_state_of(entry));
  Extent extent{.disk_offset = part.disk_offset,
                .length = part.end - part.disk_offset,
                .kind = ExtentKind::zero,
                .is_undefined = is_undefined(entry)};
  if (state == BlockState::not_present) extent.kind = absent_kind_;
  if (state == BlockState::fully_present) {
    extent.kind = ExtentKind::data;
    extent.file_offset = bat_file_offset_of(entry) + part.disk_offset % layout_.bat.block_bytes;
  }
  return extent;
}

std::optional<Extent> BlockLayer::peek(uint64_t disk_offset, uint64_t length) {
  const uint64_t block = disk_offset / layout_.bat.block_bytes;
  const uint64_t index = layout_.bat.payload_index(block);
  const auto entry = tables_.find_entry(index);
  if (!entry || entry_fault(layout_, index, *entry)) return std::nullopt;
  const uint64_t block_end = (block + 1) * layout_.bat.block_bytes;
  const Part part{
      .block = block, .disk_offset = disk_offset, .end = std::min(disk_offset + length, block_end)};
  return is_partial(*entry) ? peek_bits(part, *entry) : extent_of(part, *entry);
}

std::optional<Extent> BlockLayer::peek_bits(const Part& part, uint64_t entry) {
  const uint64_t sector_bytes = layout_.bat.logical_sector_bytes;
  const uint64_t index = layout_.bat.bitmap_index(part.disk_offset / layout_.bat.chunk_bytes());
  const auto bitmap = tables_.find_entry(index);
  if (!bitmap || !is_allocated(*bitmap) || entry_fault(layout_, index, *bitmap))
    return std::nullopt;
  const auto* const piece = tables_.find_bits(bat_file_offset_of(*bitmap), part.disk_offset);
  if (piece == nullptr) return std::nullopt;
  const uint64_t first = part.disk_offset / sector_bytes % sectors_per_piece;
  const uint64_t end_bit =
      first + ceil_div(part.disk_offset % sector_bytes + part.end - part.disk_offset, sector_bytes);
  const uint64_t run = end_of_run(piece->bytes, first, end_bit) - first;
  const uint64_t run_end = align_down(part.disk_offset, sector_bytes) + run * sector_bytes;
  const bool here = bit_at(piece->bytes, first);
  return Extent{
      .disk_offset = part.disk_offset,
      .length = std::min(run_end, part.end) - part.disk_offset,
      .kind = here ? ExtentKind::data : absent_kind_,
      .file_offset =
          here ? bat_file_offset_of(entry) + part.disk_offset % layout_.bat.block_bytes : 0};
}

uint64_t BlockLayer::append_by_bits(const Part& part, uint64_t block_offset, const Bits& bits,
                                    size_t enough, ExtentList& extents) const {
  const uint64_t sector_bytes = layout_.bat.logical_sector_bytes;
  const uint64_t bits_start = bits.first_sector * sector_bytes;
  const uint64_t end_bit = ceil_div(part.end - bits_start, sector_bytes);
  uint64_t at = part.disk_offset;
  while (at < part.end && extents.size() < enough) {
    const uint64_t bit = (at - bits_start) / sector_bytes;
    const bool here = bit_at(bits.piece->bytes, bit);
    const uint64_t run_end =
        std::min(part.end, bits_start + end_of_run(bits.piece->bytes, bit, end_bit) * sector_bytes);
    extents.append({.disk_offset = at,
                    .length = run_end - at,
                    .kind = here ? ExtentKind::data : absent_kind_,
                    .file_offset = here ? block_offset + at % layout_.bat.block_bytes : 0});
    at = run_end;
  }
  return at;
}

Async<void> BlockLayer::collect_places(BlockPlaces& places) {
  uint64_t index = 0;
  bool room = true;
  while (room && index < layout_.bat.entry_count()) {
    CO_TRY_LET(const std::optional<uint64_t> next, tables_.next_entry(index));
    if (!next) break;
    const uint64_t end = std::min(align_down(*next, entries_per_piece) + entries_per_piece,
                                  layout_.bat.entry_count());
    CO_TRY_LET(room, co_await audit_entries(*next, end, places));
    index = end;
  }
  co_return check_apart(places);
}

Async<void> BlockLayer::audit() {
  BlockPlaces places(layout_.file_bytes);
  co_return co_await collect_places(places);
}

Async<void> BlockLayer::make_writable(bool keep_identity) {
  const FileHeader& header = image_.headers.current;
  if (header.log_length < alignment_bytes)
    co_return fail(Errc::unsupported,
                   fmt::format("{}: a log of {:#x} bytes is too short to write the image with",
                               file_->name(), header.log_length));
  BlockPlaces places(layout_.file_bytes);
  CO_TRY(co_await collect_places(places));
  const TableWriter::Image image{.file = *file_,
                                 .headers = image_.headers,
                                 .layout = layout_,
                                 .tables = tables_,
                                 .keeps_places = image_.metadata.is_fixed(),
                                 .keep_identity = keep_identity};
  writer_ = std::make_unique<disk::BlockWriter>(
      *file_, std::make_unique<TableWriter>(image, take_stock(places)));
  co_return Result<void>();
}

Async<void> BlockLayer::cut_to_content() {
  BlockPlaces places(layout_.file_bytes);
  CO_TRY(co_await collect_places(places));
  uint64_t end = take_stock(places).space.end();
  if (image_.metadata.is_fixed()) {
    // [MS-VHDX] 2.6.2.1: LeaveBlockAllocated. A disk without parent has places of its blocks only.
    const uint64_t absent_count = layout_.bat.payload_block_count() - places.sorted().size();
    end += absent_count * layout_.bat.block_bytes;
  }
  // Whoever made the file longer would give such a place to another block.
  if (places.last_kept() != 0) end = std::max(end, places.last_kept() + layout_.bat.block_bytes);
  if (end < file_->size_bytes()) co_return file_->resize(end);
  co_return Result<void>();
}

UsedSpace BlockLayer::take_stock(BlockPlaces& places) const {
  UsedSpace use{.space = disk::FileSpace(header_section_bytes),
                .last_block = std::nullopt,
                .has_kept_places = places.has_kept()};
  for (const Structure& structure : layout_.structures)
    use.space.use(structure.file_offset, structure.length);
  const auto& sorted = places.sorted();
  const uint64_t last_index = layout_.bat.payload_index(layout_.bat.payload_block_count() - 1);
  for (size_t i = 0; i < sorted.size(); ++i) {
    const uint64_t begin = sorted[i].file_offset;
    uint64_t length = layout_.block_length(sorted[i].index);
    if (sorted[i].index == last_index) {
      // Old QEMU cut the last block off where the disk ends, and put the next one there.
      const uint64_t next = i + 1 < sorted.size() ? sorted[i + 1].file_offset : UINT64_MAX;
      const uint64_t end = std::min(begin + layout_.bat.block_bytes, room_end(begin, next));
      length = end - begin;
      use.last_block = async::FileRange{begin, length};
    }
    use.space.use(begin, length);
  }
  return use;
}

// Where the next structure, or what is at `next`, or the end of the file stops what begins there.
uint64_t BlockLayer::room_end(uint64_t begin, uint64_t next) const {
  uint64_t end = std::min(next, layout_.file_bytes);
  for (const Structure& structure : layout_.structures)
    if (structure.file_offset > begin) end = std::min(end, structure.file_offset);
  return end;
}

// Returns whether there was room for all blocks.
Async<bool> BlockLayer::audit_entries(uint64_t index, uint64_t end, BlockPlaces& places) {
  Entries entries;
  Bits bits;
  for (; index < end; ++index) {
    if (!entries.have(index)) {
      CO_TRY_LET(entries, co_await tables_.entries_at(index));
    }
    const uint64_t entry = entries.at(index);
    if (entry == 0 || !layout_.bat.is_used(index)) continue;
    CO_TRY(tables_.check_entry(index, entry));
    if (keeps_place(entry)) places.add_kept(bat_file_offset_of(entry));
    if (!is_allocated(entry)) continue;
    if (is_partial(entry)) {
      const uint64_t disk_offset = layout_.bat.block_of(index) * layout_.bat.block_bytes;
      if (!bits.have(disk_offset / layout_.bat.logical_sector_bytes)) {
        CO_TRY_LET(bits, co_await tables_.bits_at(disk_offset));
      }
    }
    if (!places.add(bat_file_offset_of(entry), index)) co_return false;
  }
  co_return true;
}

Result<void> BlockLayer::check_apart(BlockPlaces& places) const {
  const auto& sorted = places.sorted();
  for (size_t i = 1; i < sorted.size(); ++i) {
    const BlockPlaces::Place& before = sorted[i - 1];
    const uint64_t end_before = before.file_offset + layout_.block_length(before.index);
    if (sorted[i].file_offset < end_before)
      return fail(
          Errc::corrupt,
          fmt::format("{}: {} at offset {:#x} puts the block at {:#x}, upon {} ({:#x} to "
                      "{:#x})",
                      file_->name(), entry_name(layout_.bat, sorted[i].index),
                      layout_.entry_offset(sorted[i].index), sorted[i].file_offset,
                      entry_name(layout_.bat, before.index), before.file_offset, end_before));
  }
  return {};
}

}  // namespace vhdkit::vhdx
