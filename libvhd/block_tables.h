// The BAT and the sector bitmaps in memory, as those who read and those who write see them.
#pragma once

#include <optional>

#include "disk/table_pieces.h"
#include "libvhd/block_layout.h"

namespace vhdkit::libvhd {

inline constexpr uint64_t entries_per_piece = 16 * KiB;  // 64 KiB of the BAT

// How many pieces, most of them bitmaps, are a few MiB.
size_t pieces_kept(const BlockLayout& layout);

// The piece of the BAT that holds the block's entry: whole sectors, where the file has them.
// REQUIRES: the BAT has the entry.
async::FileRange piece_of_entry(const BlockLayout& layout, uint64_t block_index);

// What is known without I/O; nothing where the piece is not in memory, or the BAT has no entry.
std::optional<uint32_t> find_entry(const BlockLayout& layout, disk::TablePieces& pieces,
                                   uint64_t block_index);

// Whether the sector, counted from the block's begin, is in the image.
inline bool bit_at(std::span<const std::byte> bitmap, uint64_t sector) {
  return (bitmap[sector / 8] & std::byte(0x80 >> sector % 8)) != std::byte{0};
}
// The first sector at or after `sector` whose bit differs from the one there, at most `end`.
uint64_t end_of_run(std::span<const std::byte> bitmap, uint64_t sector, uint64_t end);

}  // namespace vhdkit::libvhd
