// A request's buffers, cut into the parts that go to different places.
#pragma once

#include <vector>

#include "async/file.h"

namespace vhdkit::disk {

class BufferCutter {
 public:
  // The array and what it points to outlive the parts.
  explicit BufferCutter(Buffers buffers) : rest_(buffers) {}

  // The next `length` bytes. REQUIRES: that many are left.
  std::vector<iovec> next(uint64_t length);

 private:
  Buffers rest_;
  size_t used_ = 0;  // of the first of the rest
};

void fill_zero(Buffers buffers);

}  // namespace vhdkit::disk
