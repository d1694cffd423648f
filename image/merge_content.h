// What the images of a chain hold above one of them, put into that one.
#pragma once

#include "disk/layered_disk.h"
#include "image/progress.h"

namespace vhdkit::image {

// All in bytes.
struct MergeAmount {
  uint64_t data_bytes = 0;  // to be written
  uint64_t zero_bytes = 0;  // known zeroes, to be zeroed
  // What the target's file may grow by, at most: blocks that it does not have yet.
  uint64_t new_space_bytes = 0;
};

// target_depth: of the layer that will have the content; those above it are looked at. Errors: as
// Layer::resolve().
Async<MergeAmount> measure_merge(disk::LayeredDisk& chain, size_t target_depth);

// Writes all of it into `target`, the same image as the chain's layer at target_depth, open for
// writing on its own. The chain shows the same disk at every moment, whatever a crash leaves: what
// is written below is what it shows itself. So it can be done again and again. Flushes nothing.
// Memory: some MiB. progress may be null. Errors: interrupted; and of reading and writing.
Async<void> merge_content(disk::LayeredDisk& chain, size_t target_depth, disk::LayeredDisk& target,
                          const MergeAmount& amount, Progress* progress);

}  // namespace vhdkit::image
