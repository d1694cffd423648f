// Whether two disks hold the same, whatever their formats.
#pragma once

#include <optional>

#include "image/image.h"
#include "image/progress.h"

namespace vhdkit::image {

struct Comparison {
  std::optional<uint64_t> first_difference;  // disk offset, bytes
  uint64_t size_a = 0;
  uint64_t size_b = 0;
  // The same content: one disk may be longer if the rest of it is zeroes, unless strict.
  bool same = false;
};
Async<Comparison> compare(Image& a, Image& b, bool strict, Progress* progress);

}  // namespace vhdkit::image
