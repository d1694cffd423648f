#include "libvhd/block_tables.h"

#include <algorithm>

namespace vhdkit::libvhd {
namespace {

constexpr uint64_t bitmaps_bytes_kept = 4 * MiB;
constexpr uint64_t table_pieces_kept = 64;  // the whole BAT of an ordinary disk of 2040 GiB

}  // namespace

size_t pieces_kept(const BlockLayout& layout) {
  return table_pieces_kept +
         std::clamp<uint64_t>(bitmaps_bytes_kept / layout.bitmap_bytes(), 16, 4096);
}

async::FileRange piece_of_entry(const BlockLayout& layout, uint64_t block_index) {
  const uint64_t first_index = align_down(block_index, entries_per_piece);
  const uint64_t count = std::min(entries_per_piece, layout.table_entries - first_index);
  const uint64_t file_offset = layout.table_offset + first_index * sizeof(be32);
  const uint64_t whole = align_up(count * sizeof(be32), sector_bytes);
  return {
      .file_offset = file_offset,
      .length = range_fits(file_offset, whole, layout.content_end) ? whole : count * sizeof(be32)};
}

std::optional<uint32_t> find_entry(const BlockLayout& layout, disk::TablePieces& pieces,
                                   uint64_t block_index) {
  if (block_index >= layout.table_entries) return std::nullopt;
  const uint64_t first_index = align_down(block_index, entries_per_piece);
  const auto* const piece = pieces.find(layout.table_offset + first_index * sizeof(be32));
  if (piece == nullptr) return std::nullopt;
  return *load<be32>(piece->bytes, (block_index - first_index) * sizeof(be32));
}

uint64_t end_of_run(std::span<const std::byte> bitmap, uint64_t sector, uint64_t end) {
  const bool bit = bit_at(bitmap, sector);
  const std::byte uniform = bit ? std::byte{0xff} : std::byte{0};
  while (sector < end && bit_at(bitmap, sector) == bit) {
    const bool whole_byte = sector % 8 == 0 && bitmap[sector / 8] == uniform;
    sector += whole_byte ? 8 : 1;
  }
  return std::min(sector, end);
}

}  // namespace vhdkit::libvhd
