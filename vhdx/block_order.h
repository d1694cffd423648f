// In which order the payload blocks of a new image lie in its file.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace vhdkit::vhdx {

// Gives each block the next free place. Memory: 4 bytes for each block of the 64 KiB tables that
// hold a placed one, and 8 for each table of the disk.
class BlockOrder {
 public:
  enum class Initial {
    none,  // no block has a place yet
    all,   // every block has its place, in the order of the disk; takes no memory
  };
  // block_count: of the disk, less than 2^32.
  BlockOrder(uint64_t block_count, Initial initial);

  uint64_t placed_count() const { return placed_count_; }
  // The block's place, counted in blocks from the first; the next free one on the first call.
  uint64_t place(uint64_t block);
  std::optional<uint64_t> find(uint64_t block) const;
  // The first block at or after this one that has a place.
  std::optional<uint64_t> next(uint64_t block) const;

 private:
  static constexpr uint64_t table_blocks = 16384;
  static constexpr uint32_t no_place = ~uint32_t{0};
  using Table = std::array<uint32_t, table_blocks>;

  uint64_t block_count_;
  Initial initial_;
  uint64_t placed_count_;
  std::vector<std::unique_ptr<Table>> tables_;
};

}  // namespace vhdkit::vhdx
