#include "fuse/buffer_pool.h"

#include <cassert>
#include <cstdlib>

#include "support/checked.h"

namespace vhdkit::fuse {
namespace {

constexpr size_t page_bytes = 4096;
// Smaller ones are the allocator's business.
constexpr size_t kept_from_bytes = 64 * 1024;

std::byte* allocate(size_t size) {
  void* const bytes = std::aligned_alloc(page_bytes, align_up(size, page_bytes));
  assert(bytes != nullptr);
  return static_cast<std::byte*>(bytes);
}

}  // namespace

void BufferPool::Release::operator()(std::byte* bytes) const {
  if (owner != nullptr) {
    owner->free_.push_back(bytes);
  } else {
    std::free(bytes);
  }
}

BufferPool::~BufferPool() {
  for (std::byte* const bytes : free_) std::free(bytes);
}

BufferPool::Buffer BufferPool::take(size_t size) {
  assert(size <= request_bytes);
  if (size < kept_from_bytes) return Buffer(allocate(size), Release());
  if (free_.empty()) return Buffer(allocate(request_bytes), Release{this});
  Buffer buffer(free_.back(), Release{this});
  free_.pop_back();
  return buffer;
}

}  // namespace vhdkit::fuse
