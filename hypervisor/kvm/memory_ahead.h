// Memory that is taken from the machine before it is written to.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <span>
#include <thread>
#include <vector>

namespace vhdkit::hypervisor {

// While it lives, another thread has the kernel give pages for pieces of memory, one after the
// other, each from its end on: whoever fills it from its beginning meets it halfway, and waits for
// half of the pages to be cleared.
class MemoryAhead {
 public:
  using Pieces = std::vector<std::span<std::byte>>;

  // begin: called on the thread before anything else.
  explicit MemoryAhead(Pieces pieces, const std::function<void()>& begin = [] {});
  MemoryAhead(const MemoryAhead&) = delete;
  MemoryAhead& operator=(const MemoryAhead&) = delete;
  ~MemoryAhead();

 private:
  void take(std::span<std::byte> memory) const;

  Pieces pieces_;
  std::atomic<bool> is_over_ = false;
  std::thread thread_;  // none where there is too little to be worth it
};

}  // namespace vhdkit::hypervisor
