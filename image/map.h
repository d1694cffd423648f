// The extents of a disk as users ask for them.
#pragma once

#include "image/image.h"

namespace vhdkit::image {

struct MapEntry {
  uint64_t disk_offset;
  uint64_t length;
  uint32_t depth;  // which image of the chain answers; 0 is the child
  bool present;    // as qemu-img has it: some image of the chain answers, if only with zeroes
  bool zero;       // reads as zeroes
  bool encoded;    // data, but compressed
  std::optional<uint64_t> file_offset;  // of data that lies in the file as it is
};

class MapVisitor {
 public:
  virtual ~MapVisitor() = default;
  virtual void visit(const MapEntry& entry) = 0;
};

// Visits the whole disk in order, neighbours merged. refine: also look for holes inside allocated
// blocks.
Async<void> map(Image& image, bool refine, MapVisitor& visitor);

}  // namespace vhdkit::image
