#include "vhdx/bat.h"

#include <fmt/format.h>

#include <algorithm>

namespace vhdkit::vhdx {

uint64_t BatLayout::data_bytes(uint64_t block) const {
  return std::min(block_bytes, disk_bytes - block * block_bytes);
}

uint64_t BatLayout::entry_count() const {
  if (disk_bytes == 0) return 0;
  if (has_parent) return bitmap_index(bitmap_block_count() - 1) + 1;
  return payload_index(payload_block_count() - 1) + 1;
}

std::string entry_name(const BatLayout& layout, uint64_t index) {
  if (layout.is_bitmap_index(index))
    return fmt::format("sector bitmap block {} (BAT entry {})", index / (layout.chunk_ratio() + 1),
                       index);
  return fmt::format("payload block {} (BAT entry {})", layout.block_of(index), index);
}

}  // namespace vhdkit::vhdx
