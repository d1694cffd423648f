// What of a file is in use, and the gaps between.
#pragma once

#include <vector>

#include "libvhd/block_layout.h"

namespace vhdkit::libvhd {

struct UsedRange {
  uint64_t begin;
  uint64_t end;  // bytes
};

// Where the block's place ends, with what the last block has beyond the disk's end, but at most
// where the content ends.
uint64_t end_of_room(const BlockLayout& layout, const BlockPlaces::Place& place);

// The structures of the layout with their padding, cut at the end of the content.
std::vector<UsedRange> used_by_structures(const BlockLayout& layout);

// blktap's map of full blocks right behind the BAT, if there is one. Errors: io.
Async<std::vector<UsedRange>> used_by_batmap(File& file, const BlockLayout& layout);

// What the entries behind the disk's blocks name: the disk ends before them by its geometry, or
// because it was made with room to grow. Nobody vouches for them, but whoever takes the disk for
// larger has such a block in use. Apart from each other, so they are as few as fit into the
// content. REQUIRES: the BAT has entries for all of the disk's blocks. Errors: io.
Async<std::vector<UsedRange>> used_beyond_disk(File& file, const BlockLayout& layout);

// In the order of the file, with those that overlap or touch made one.
std::vector<UsedRange> joined(std::vector<UsedRange> ranges);

// The gaps that are too large for padding, from the file's beginning to the end of the content.
std::vector<UsedRange> unused_ranges(std::vector<UsedRange> used, uint64_t content_end);

}  // namespace vhdkit::libvhd
