// The BAT, read once up to its last entry.
#pragma once

#include <vector>

#include "libvhd/block_layout.h"

namespace vhdkit::libvhd {

// Loop-bound. The file and the layout outlive it.
class TableReader {
 public:
  // first_index: of the first entry wanted, at most the number of entries.
  TableReader(File& file, const BlockLayout& layout, uint64_t first_index = 0)
      : file_(file), layout_(layout), next_index_(first_index) {}

  // Some further entries, kept until the next call; none at the end. Errors: io.
  Async<std::span<const be32>> next();
  // The block of the first entry that next() gave.
  uint64_t first_index() const { return first_index_; }

 private:
  File& file_;
  const BlockLayout& layout_;
  uint64_t first_index_ = 0;
  uint64_t next_index_;
  std::vector<be32> entries_;
};

}  // namespace vhdkit::libvhd
