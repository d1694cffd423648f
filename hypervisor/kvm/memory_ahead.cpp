#include "hypervisor/kvm/memory_ahead.h"

#include <sys/mman.h>

#include <cstdint>

namespace vhdkit::hypervisor {
namespace {

constexpr size_t page_bytes = 4096;
constexpr size_t step_bytes = size_t{2} << 20;  // of one huge page
constexpr size_t worthwhile_bytes = 4 * step_bytes;

}  // namespace

MemoryAhead::MemoryAhead(Pieces pieces, const std::function<void()>& begin)
    : pieces_(std::move(pieces)) {
  std::erase_if(pieces_,
                [](std::span<std::byte> piece) { return piece.size() < worthwhile_bytes; });
  if (pieces_.empty()) return;
  thread_ = std::thread([this, begin] {
    begin();
    for (const auto piece : pieces_) take(piece);
  });
}

MemoryAhead::~MemoryAhead() {
  is_over_ = true;
  if (thread_.joinable()) thread_.join();
}

void MemoryAhead::take(std::span<std::byte> memory) const {
  while (!is_over_ && memory.size() >= step_bytes) {
    const auto end = reinterpret_cast<uintptr_t>(memory.data() + memory.size());
    const size_t beyond = end % step_bytes;
    const auto step = memory.last(beyond == 0 ? step_bytes : beyond);
    // To the pages that it touches. Where the kernel does not know it, they come when they are
    // written to.
    std::byte* const page = step.data() - reinterpret_cast<uintptr_t>(step.data()) % page_bytes;
    if (madvise(page, size_t(step.data() + step.size() - page), MADV_POPULATE_WRITE) != 0) return;
    memory = memory.first(memory.size() - step.size());
  }
}

}  // namespace vhdkit::hypervisor
