#include "vhdx/block_order.h"

#include <cassert>

#include "support/checked.h"

namespace vhdkit::vhdx {

BlockOrder::BlockOrder(uint64_t block_count, Initial initial)
    : block_count_(block_count),
      initial_(initial),
      placed_count_(initial == Initial::all ? block_count : 0) {
  assert(block_count < no_place);
  if (initial == Initial::none) tables_.resize(ceil_div(block_count, table_blocks));
}

uint64_t BlockOrder::place(uint64_t block) {
  assert(block < block_count_);
  if (initial_ == Initial::all) return block;
  std::unique_ptr<Table>& table = tables_[block / table_blocks];
  if (!table) {
    table = std::make_unique<Table>();
    table->fill(no_place);
  }
  uint32_t& place = (*table)[block % table_blocks];
  if (place == no_place) place = uint32_t(placed_count_++);
  return place;
}

std::optional<uint64_t> BlockOrder::find(uint64_t block) const {
  assert(block < block_count_);
  if (initial_ == Initial::all) return block;
  const std::unique_ptr<Table>& table = tables_[block / table_blocks];
  if (!table || (*table)[block % table_blocks] == no_place) return std::nullopt;
  return (*table)[block % table_blocks];
}

std::optional<uint64_t> BlockOrder::next(uint64_t block) const {
  while (block < block_count_) {
    if (find(block)) return block;
    const bool is_tabled = tables_[block / table_blocks] != nullptr;
    block = is_tabled ? block + 1 : align_down(block, table_blocks) + table_blocks;
  }
  return std::nullopt;
}

}  // namespace vhdkit::vhdx
