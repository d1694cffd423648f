#include "vhdx/block_layer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace vhdkit::vhdx {
namespace {

using disk::Extent;
using disk::ExtentKind;
using disk::ExtentList;

// The BAT and the bitmaps are read and kept in pieces of this. A block has at most 2^19 sectors, so
// its bits lie in one piece.
constexpr uint64_t piece_bytes = 64 * KiB;
constexpr uint64_t entries_per_piece = piece_bytes / sizeof(le64);
constexpr uint64_t sectors_per_piece = piece_bytes * 8;
static_assert(max_block_bytes / 512 <= sectors_per_piece);
constexpr size_t bat_pieces_kept = 64;
constexpr size_t bitmap_pieces_kept = 32;
constexpr size_t extents_at_once = 4096;

bool is_partial(uint64_t entry) {
  return bat_state_of(entry) == uint64_t(BlockState::partially_present);
}

bool bit_at(std::span<const std::byte> bits, uint64_t index) {
  return (bits[index / 8] >> (index % 8) & std::byte{1}) != std::byte{0};
}

// The first bit at or after index that differs from the one there, at most `end`. The bytes are
// whole words.
uint64_t end_of_run(std::span<const std::byte> bits, uint64_t index, uint64_t end) {
  const uint64_t flip = bit_at(bits, index) ? 0 : ~uint64_t{0};
  while (index < end) {
    const uint64_t in_word = index % 64;
    const uint64_t word = *load<le64>(bits, index / 64 * sizeof(le64)) ^ flip;
    const uint64_t run = uint64_t(std::countr_one(word >> in_word));
    index += run;
    if (in_word + run < 64) break;
  }
  return std::min(index, end);
}

}  // namespace

BlockLayer::BlockLayer(std::unique_ptr<File> file, OpenedImage image, ImageLayout layout)
    : file_(std::move(file)),
      image_(std::move(image)),
      layout_(std::move(layout)),
      absent_kind_(layout_.bat.has_parent ? ExtentKind::parent : ExtentKind::zero),
      bat_pieces_(bat_pieces_kept),
      bitmap_pieces_(bitmap_pieces_kept) {
  const Metadata& metadata = image_.metadata;
  geometry_.size_bytes = metadata.disk_size_bytes;
  geometry_.logical_sector_bytes = metadata.logical_sector_bytes;
  geometry_.physical_sector_bytes = metadata.physical_sector_bytes;
  if (metadata.parent_locator) parent_ = parent_reference(*metadata.parent_locator);
}

bool BlockLayer::Entries::have(uint64_t index) const {
  return bytes != nullptr && index >= first_index &&
         index - first_index < bytes->size() / sizeof(le64);
}

uint64_t BlockLayer::Entries::at(uint64_t index) const {
  return *load<le64>(*bytes, (index - first_index) * sizeof(le64));
}

bool BlockLayer::Bits::have(uint64_t sector) const {
  return bytes != nullptr && sector >= first_sector && sector - first_sector < sectors_per_piece;
}

// The piece of the BAT that holds the entry.
Async<BlockLayer::Entries> BlockLayer::entries_at(uint64_t index) {
  Entries entries;
  entries.first_index = align_down(index, entries_per_piece);
  const uint64_t count =
      std::min(entries_per_piece, layout_.bat.entry_count() - entries.first_index);
  const uint64_t file_offset = layout_.entry_offset(entries.first_index);
  CO_TRY_LET(entries.bytes, co_await bat_pieces_.read(*file_, file_offset, count * sizeof(le64)));
  co_return entries;
}

// The piece of the chunk's sector bitmap that tells of disk_offset, whose block is partially
// present.
Async<BlockLayer::Bits> BlockLayer::bits_at(uint64_t disk_offset) {
  const uint64_t chunk = disk_offset / layout_.bat.chunk_bytes();
  const uint64_t index = layout_.bat.bitmap_index(chunk);
  CO_TRY_LET(const Entries entries, co_await entries_at(index));
  const uint64_t entry = entries.at(index);
  CO_TRY(check_entry(index, entry));
  if (!is_allocated(entry))
    co_return fail(
        Errc::corrupt,
        fmt::format("{}: {}: the block is not present, but {} is partially present", file_->name(),
                    entry_text(layout_, index, entry),
                    entry_name(layout_.bat,
                               layout_.bat.payload_index(disk_offset / layout_.bat.block_bytes))));
  const uint64_t sector = disk_offset / layout_.bat.logical_sector_bytes;
  Bits bits;
  bits.first_sector = align_down(sector, sectors_per_piece);
  const uint64_t file_offset =
      bat_file_offset_of(entry) + bits.first_sector % sectors_per_chunk / 8;
  CO_TRY_LET(bits.bytes, co_await bitmap_pieces_.read(*file_, file_offset, piece_bytes));
  co_return bits;
}

// Adds the blocks from disk_offset on whose entries lie in a hole of the file and so are zero;
// returns where they end.
Result<uint64_t> BlockLayer::append_hole(uint64_t disk_offset, uint64_t end,
                                         ExtentList& extents) const {
  const BatLayout& bat = layout_.bat;
  const uint64_t index = bat.payload_index(disk_offset / bat.block_bytes);
  TRY_LET(const std::optional<async::FileRange> data,
          file_->next_data(layout_.entry_offset(index), layout_.entry_offset(bat.entry_count())));
  uint64_t hole_end = end;
  if (data) {
    const uint64_t data_index = (data->file_offset - layout_.bat_offset) / sizeof(le64);
    hole_end = std::clamp(bat.block_of(data_index) * bat.block_bytes, disk_offset, end);
  }
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
      CO_TRY_LET(entries, co_await entries_at(index));
    }
    const uint64_t entry = entries.at(index);
    CO_TRY(check_entry(index, entry));
    if (is_partial(entry) && !bits.have(disk_offset / layout_.bat.logical_sector_bytes)) {
      CO_TRY_LET(bits, co_await bits_at(disk_offset));
    }
    const uint64_t block_end = (block + 1) * layout_.bat.block_bytes;
    const Part part{.block = block, .disk_offset = disk_offset, .end = std::min(end, block_end)};
    disk_offset = append_part(part, entry, bits, enough, extents);
  }
  co_return Result<void>();
}

uint64_t BlockLayer::append_part(const Part& part, uint64_t entry, const Bits& bits, size_t enough,
                                 ExtentList& extents) const {
  const uint64_t file_offset = bat_file_offset_of(entry);
  if (is_partial(entry)) return append_by_bits(part, file_offset, bits, enough, extents);
  const BlockState state = BlockState(bat_state_of(entry));
  Extent extent{.disk_offset = part.disk_offset,
                .length = part.end - part.disk_offset,
                .kind = ExtentKind::zero};
  if (state == BlockState::not_present) extent.kind = absent_kind_;
  if (state == BlockState::fully_present) {
    extent.kind = ExtentKind::data;
    extent.file_offset = file_offset + part.disk_offset % layout_.bat.block_bytes;
  }
  extents.append(extent);
  return part.end;
}

uint64_t BlockLayer::append_by_bits(const Part& part, uint64_t block_offset, const Bits& bits,
                                    size_t enough, ExtentList& extents) const {
  const uint64_t sector_bytes = layout_.bat.logical_sector_bytes;
  const uint64_t bits_start = bits.first_sector * sector_bytes;
  const uint64_t end_bit = ceil_div(part.end - bits_start, sector_bytes);
  uint64_t at = part.disk_offset;
  while (at < part.end && extents.size() < enough) {
    const uint64_t bit = (at - bits_start) / sector_bytes;
    const bool here = bit_at(*bits.bytes, bit);
    const uint64_t run_end =
        std::min(part.end, bits_start + end_of_run(*bits.bytes, bit, end_bit) * sector_bytes);
    extents.append({.disk_offset = at,
                    .length = run_end - at,
                    .kind = here ? ExtentKind::data : absent_kind_,
                    .file_offset = here ? block_offset + at % layout_.bat.block_bytes : 0});
    at = run_end;
  }
  return at;
}

Result<void> BlockLayer::check_entry(uint64_t index, uint64_t entry) const {
  const auto fault = entry_fault(layout_, index, entry);
  if (!fault) return {};
  return fail(Errc::corrupt, fmt::format("{}: {} {}", file_->name(),
                                         entry_text(layout_, index, entry), fault->message));
}

// A large disk's BAT is nearly all hole of the file, and a hole is entries of not present blocks.
Async<void> BlockLayer::audit() {
  BlockPlaces places(layout_.file_bytes);
  const uint64_t bat_end = layout_.entry_offset(layout_.bat.entry_count());
  uint64_t index = 0;
  bool room = true;
  while (room && index < layout_.bat.entry_count()) {
    CO_TRY_LET(const std::optional<async::FileRange> data,
               file_->next_data(layout_.entry_offset(index), bat_end));
    if (!data) break;
    const uint64_t begin = data->file_offset - layout_.bat_offset;
    index = begin / sizeof(le64);
    const uint64_t end = ceil_div(begin + data->length, sizeof(le64));
    CO_TRY_LET(room, co_await audit_entries(index, end, places));
    index = end;
  }
  co_return check_apart(places);
}

// Returns whether there was room for all blocks.
Async<bool> BlockLayer::audit_entries(uint64_t index, uint64_t end, BlockPlaces& places) {
  Entries entries;
  Bits bits;
  for (; index < end; ++index) {
    if (!entries.have(index)) {
      CO_TRY_LET(entries, co_await entries_at(index));
    }
    const uint64_t entry = entries.at(index);
    const bool is_bitmap = layout_.bat.is_bitmap_index(index);
    // The bitmap entries of a disk without parent are nobody's.
    if (entry == 0 || (is_bitmap && !layout_.bat.has_parent)) continue;
    CO_TRY(check_entry(index, entry));
    if (!is_allocated(entry)) continue;
    if (is_partial(entry)) {
      const uint64_t disk_offset = layout_.bat.block_of(index) * layout_.bat.block_bytes;
      if (!bits.have(disk_offset / layout_.bat.logical_sector_bytes)) {
        CO_TRY_LET(bits, co_await bits_at(disk_offset));
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
