// A differencing image's content put into its parent, or into an image further down its chain.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "image/image.h"
#include "image/progress.h"

namespace vhdkit::image {

struct MergeOptions {
  std::optional<std::string> into;  // an image of the chain; else the parent
  bool dry_run = false;             // only says what would be done; nothing is changed
  bool keep_files = false;          // the merged images stay; they show what they showed
};

struct MergeReport {
  std::string into;                 // the image that has the content now
  std::vector<std::string> merged;  // the images above it, child first; removed unless kept
  uint64_t data_bytes = 0;          // of theirs, to be written
  uint64_t zero_bytes = 0;          // known zeroes, to be zeroed
  // What the image's file may grow by, at most: blocks that it does not have yet.
  uint64_t new_space_bytes = 0;
};

// Writes what the images above `into` hold into it, flushes it, and then removes them, the child
// first. The child shows the same disk at every moment until it is removed, since whatever is
// written below it is what it shows itself; so after a crash, or when this was interrupted, it is
// called again and does it all again. What is in one place the same is not copied twice at once,
// and memory is bounded by a few MiB.
//
// The images are locked against everybody else meanwhile. An image that others have as their parent
// is refused, as far as they can be known (known_children()): those would be lost.
//
// Errors, with nothing changed: invalid_argument (no parent; `into` not in the chain; other
// children); unsupported (the child is larger than `into`, or that one cannot be written); busy; as
// Image::open(). Later: io, no_space, interrupted; then the child still shows its disk.
Async<MergeReport> merge(async::Loop& loop, const std::string& child_path,
                         const MergeOptions& options, const OpenOptions& open_options,
                         Progress* progress);

}  // namespace vhdkit::image
