// The BAT's arithmetic: which entry belongs to which block, and what an entry may say.
#pragma once

#include <optional>
#include <string>

#include "support/checked.h"
#include "vhdx/format.h"

namespace vhdkit::vhdx {

// [MS-VHDX] 2.4 and 2.5: payload entries with, after each chunk of them, one sector bitmap entry.
struct BatLayout {
  uint64_t disk_bytes = 0;
  uint64_t block_bytes = 0;
  uint64_t logical_sector_bytes = 512;
  bool has_parent = false;

  uint64_t chunk_bytes() const { return sectors_per_chunk * logical_sector_bytes; }
  // Payload blocks in a chunk.
  uint64_t chunk_ratio() const { return chunk_bytes() / block_bytes; }
  uint64_t payload_block_count() const { return ceil_div(disk_bytes, block_bytes); }
  // The payload block's bytes that lie inside the disk: all that the file must have of it.
  uint64_t data_bytes(uint64_t block) const;
  uint64_t bitmap_block_count() const { return ceil_div(payload_block_count(), chunk_ratio()); }
  // All entries: up to the last payload block's, for a differencing disk to the last bitmap
  // block's.
  uint64_t entry_count() const;
  uint64_t payload_index(uint64_t block) const { return block + block / chunk_ratio(); }
  uint64_t bitmap_index(uint64_t chunk) const { return (chunk + 1) * (chunk_ratio() + 1) - 1; }
  bool is_bitmap_index(uint64_t index) const {
    return index % (chunk_ratio() + 1) == chunk_ratio();
  }
  // False: a bitmap entry of a disk without parent, or one that pads the last chunk.
  bool is_used(uint64_t index) const {
    return is_bitmap_index(index) ? has_parent : block_of(index) < payload_block_count();
  }
  // The block of a payload entry; for a bitmap entry the first block behind its chunk.
  uint64_t block_of(uint64_t index) const { return index - index / (chunk_ratio() + 1); }
};

// "payload block 17 (BAT entry 17)", "sector bitmap block 0 (BAT entry 4096)"
std::string entry_name(const BatLayout& layout, uint64_t index);

}  // namespace vhdkit::vhdx
