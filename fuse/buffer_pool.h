// Memory for requests and answers, used again while it is still in the cache.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace vhdkit::fuse {

// The largest transfer that the kernel is offered.
inline constexpr size_t max_transfer_bytes = 1 << 20;
// Room for one request: the largest write and its header, as libfuse 3.14 reads them.
inline constexpr size_t request_bytes = max_transfer_bytes + 4096;

// Loop-bound. Outlives its buffers.
class BufferPool {
 public:
  struct Release {
    BufferPool* owner = nullptr;  // null: not one of the kept ones
    void operator()(std::byte* bytes) const;
  };
  using Buffer = std::unique_ptr<std::byte, Release>;  // on a page's border

  BufferPool() = default;
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // At least `size` bytes, at most request_bytes.
  Buffer take(size_t size);

 private:
  std::vector<std::byte*> free_;  // of request_bytes each; the last one was used last
};

}  // namespace vhdkit::fuse
