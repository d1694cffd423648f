// Guest memory for tests: pages of which no two need lie side by side.
#pragma once

#include <memory>
#include <vector>

#include "vmbus/guest_memory.h"

namespace vhdkit::vmbus {

class TestMemory final : public GuestMemory {
 public:
  explicit TestMemory(size_t page_count) : pages_(page_count) {
    for (auto& page : pages_) page = std::make_unique<Words>();
  }
  std::byte* page(uint64_t number) override {
    return number < pages_.size() ? reinterpret_cast<std::byte*>(pages_[number]->words) : nullptr;
  }

 private:
  struct Words {
    uint64_t words[page_bytes / 8] = {};
  };
  std::vector<std::unique_ptr<Words>> pages_;
};

}  // namespace vhdkit::vmbus
