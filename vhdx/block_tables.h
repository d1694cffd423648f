// The BAT and the sector bitmaps in memory, as those who read and those who write see them.
#pragma once

#include "disk/table_pieces.h"
#include "vhdx/block_places.h"

namespace vhdkit::vhdx {

// Both are read and kept in pieces of this. A block has at most 2^19 sectors, so its bits lie in
// one piece.
inline constexpr uint64_t piece_bytes = 64 * KiB;
inline constexpr uint64_t entries_per_piece = piece_bytes / sizeof(le64);
inline constexpr uint64_t sectors_per_piece = piece_bytes * 8;
static_assert(max_block_bytes / 512 <= sectors_per_piece);

constexpr bool is_partial(uint64_t entry) {
  return bat_state_of(entry) == uint64_t(BlockState::partially_present);
}

// Whether the sector with this index is in the image.
constexpr bool bit_at(std::span<const std::byte> bits, uint64_t index) {
  return (bits[index / 8] >> (index % 8) & std::byte{1}) != std::byte{0};
}
// The first bit at or after index that differs from the one there, at most `end`. The bytes are
// whole words.
uint64_t end_of_run(std::span<const std::byte> bits, uint64_t index, uint64_t end);

// Consecutive BAT entries.
struct Entries {
  disk::TablePieces::Handle piece;
  uint64_t first_index = 0;

  bool have(uint64_t index) const {
    return piece != nullptr && index >= first_index && index - first_index < entries_per_piece;
  }
  // REQUIRES: have(index)
  uint64_t at(uint64_t index) const {
    return *load<le64>(piece->bytes, (index - first_index) * sizeof(le64));
  }
};

// Consecutive bits of one chunk's sector bitmap.
struct Bits {
  disk::TablePieces::Handle piece;
  uint64_t first_sector = 0;  // of the disk

  bool have(uint64_t sector) const {
    return piece != nullptr && sector >= first_sector && sector - first_sector < sectors_per_piece;
  }
};

// Loop-bound. The file and the layout outlive it; file: after replay of its log.
class BlockTables {
 public:
  BlockTables(File& file, const ImageLayout& layout);

  // The piece of the BAT that holds the entry. Errors: io.
  Async<Entries> entries_at(uint64_t index);
  // The piece of the chunk's sector bitmap that tells of disk_offset, whose block is partially
  // present. Errors: corrupt (the chunk has no sector bitmap block); io.
  Async<Bits> bits_at(uint64_t disk_offset);
  // The same for a bitmap block whose place is known: file offset of the block.
  Async<Bits> bits_in(uint64_t bitmap_offset, uint64_t disk_offset);

  // The first entry at or after index that may be other than zero; nothing where there is none. A
  // large disk's BAT is nearly all hole of the file, and a hole is entries of not present blocks.
  Result<std::optional<uint64_t>> next_entry(uint64_t index);

  // What is known without I/O; nothing where the tables are not in memory. Valid until an await.
  std::optional<uint64_t> find_entry(uint64_t index);
  const disk::TablePiece* find_bits(uint64_t bitmap_offset, uint64_t disk_offset);

  // Errors: corrupt where the entry cannot be followed.
  Result<void> check_entry(uint64_t index, uint64_t entry) const;

  disk::TablePieces& pieces() { return pieces_; }
  // Of the pieces that hold an entry, and the bits of disk_offset.
  uint64_t piece_of_entry(uint64_t index) const;
  uint64_t piece_of_bits(uint64_t bitmap_offset, uint64_t disk_offset) const;

 private:
  uint64_t first_sector_of_piece(uint64_t disk_offset) const;

  File& file_;
  const ImageLayout& layout_;
  disk::TablePieces pieces_;
};

}  // namespace vhdkit::vhdx
