#include "disk/buffer_cutter.h"

#include <algorithm>
#include <cstring>

namespace vhdkit::disk {

std::vector<iovec> BufferCutter::next(uint64_t length) {
  std::vector<iovec> part;
  while (length > 0) {
    const iovec& vector = rest_.front();
    const size_t count = std::min<uint64_t>(length, vector.iov_len - used_);
    if (count > 0) part.push_back({static_cast<std::byte*>(vector.iov_base) + used_, count});
    length -= count;
    used_ += count;
    if (used_ < vector.iov_len) continue;
    used_ = 0;
    rest_ = rest_.subspan(1);
  }
  return part;
}

void fill_zero(Buffers buffers) {
  for (const iovec& vector : buffers)
    if (vector.iov_len > 0) std::memset(vector.iov_base, 0, vector.iov_len);
}

}  // namespace vhdkit::disk
