// The BAT, read once from its first to its last entry.
#pragma once

#include <vector>

#include "libvhd/block_layout.h"

namespace vhdkit::libvhd {

// Loop-bound. The file and the layout outlive it.
class TableReader {
 public:
  TableReader(File& file, const BlockLayout& layout) : file_(file), layout_(layout) {}

  // Some further entries, kept until the next call; none at the end. Errors: io.
  Async<std::span<const be32>> next();
  // The block of the first entry that next() gave.
  uint64_t first_index() const { return first_index_; }

 private:
  File& file_;
  const BlockLayout& layout_;
  uint64_t first_index_ = 0;
  uint64_t next_index_ = 0;
  std::vector<be32> entries_;
};

}  // namespace vhdkit::libvhd
