#include "vhdx/block_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace vhdkit::vhdx {
namespace {

constexpr size_t pieces_kept = 96;

}  // namespace

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

BlockTables::BlockTables(File& file, const ImageLayout& layout)
    : file_(file), layout_(layout), pieces_(pieces_kept, log_sector_bytes) {}

uint64_t BlockTables::piece_of_entry(uint64_t index) const {
  return layout_.entry_offset(align_down(index, entries_per_piece));
}

uint64_t BlockTables::first_sector_of_piece(uint64_t disk_offset) const {
  return align_down(disk_offset / layout_.bat.logical_sector_bytes, sectors_per_piece);
}

uint64_t BlockTables::piece_of_bits(uint64_t bitmap_offset, uint64_t disk_offset) const {
  return bitmap_offset + first_sector_of_piece(disk_offset) % sectors_per_chunk / 8;
}

// The region is whole MiB, so the last piece may be read in whole sectors of the log.
Async<Entries> BlockTables::entries_at(uint64_t index) {
  Entries entries;
  entries.first_index = align_down(index, entries_per_piece);
  const uint64_t count =
      std::min(entries_per_piece, layout_.bat.entry_count() - entries.first_index);
  const uint64_t length = align_up(count * sizeof(le64), log_sector_bytes);
  const uint64_t file_offset = piece_of_entry(index);
  CO_TRY_LET(entries.piece, co_await pieces_.read(file_, file_offset, length));
  co_return entries;
}

Async<Bits> BlockTables::bits_at(uint64_t disk_offset) {
  const uint64_t chunk = disk_offset / layout_.bat.chunk_bytes();
  const uint64_t index = layout_.bat.bitmap_index(chunk);
  CO_TRY_LET(const Entries entries, co_await entries_at(index));
  const uint64_t entry = entries.at(index);
  CO_TRY(check_entry(index, entry));
  if (!is_allocated(entry))
    co_return fail(
        Errc::corrupt,
        fmt::format("{}: {}: the block is not present, but {} is partially present", file_.name(),
                    entry_text(layout_, index, entry),
                    entry_name(layout_.bat,
                               layout_.bat.payload_index(disk_offset / layout_.bat.block_bytes))));
  co_return co_await bits_in(bat_file_offset_of(entry), disk_offset);
}

Async<Bits> BlockTables::bits_in(uint64_t bitmap_offset, uint64_t disk_offset) {
  Bits bits;
  bits.first_sector = first_sector_of_piece(disk_offset);
  const uint64_t file_offset = piece_of_bits(bitmap_offset, disk_offset);
  CO_TRY_LET(bits.piece, co_await pieces_.read(file_, file_offset, piece_bytes));
  co_return bits;
}

Result<std::optional<uint64_t>> BlockTables::next_entry(uint64_t index) {
  const uint64_t begin = layout_.entry_offset(index);
  const uint64_t end = layout_.entry_offset(layout_.bat.entry_count());
  TRY_LET(const std::optional<async::FileRange> data, file_.next_data(begin, end));
  const auto changed = pieces_.first_changed(begin, end);
  if (!data && !changed) return std::nullopt;
  const uint64_t found = std::min(data ? data->file_offset : end, changed.value_or(end));
  return (found - layout_.bat_offset) / sizeof(le64);
}

std::optional<uint64_t> BlockTables::find_entry(uint64_t index) {
  const disk::TablePiece* const piece = pieces_.find(piece_of_entry(index));
  if (piece == nullptr) return std::nullopt;
  return *load<le64>(piece->bytes, index % entries_per_piece * sizeof(le64));
}

const disk::TablePiece* BlockTables::find_bits(uint64_t bitmap_offset, uint64_t disk_offset) {
  return pieces_.find(piece_of_bits(bitmap_offset, disk_offset));
}

Result<void> BlockTables::check_entry(uint64_t index, uint64_t entry) const {
  const auto fault = entry_fault(layout_, index, entry);
  if (!fault) return {};
  return fail(Errc::corrupt, fmt::format("{}: {} {}", file_.name(),
                                         entry_text(layout_, index, entry), fault->message));
}

}  // namespace vhdkit::vhdx
