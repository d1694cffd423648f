// The guest's memory, as a device of its host may touch it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "support/result.h"

namespace vhdkit::vmbus {

// Thread-safe. Pages are of 4 KiB, numbered by their guest physical address / 4096.
class GuestMemory {
 public:
  static constexpr size_t page_bytes = 4096;
  using Page = std::span<std::byte, page_bytes>;

  virtual ~GuestMemory() = default;
  // Where a page of the guest's RAM lies in this process; null where the guest has none. It stays
  // there as long as this object lives, and its bytes change whenever the guest likes.
  virtual std::byte* page(uint64_t page_number) = 0;
};

// Pages that the guest named, in its order: looked up once, so that nothing has to be checked
// again.
using PageList = std::vector<std::byte*>;

// Errors: invalid_argument, with the first number that is no page of RAM.
Result<PageList> look_up(GuestMemory& memory, std::span<const uint64_t> page_numbers);

// Copies between this process and memory that a guest may be writing or reading meanwhile: every
// byte is touched once. Lengths and both addresses are multiples of 8 on the guest's side.
void copy_from_guest(std::byte* to, const std::byte* from, size_t length);
void copy_to_guest(std::byte* to, const std::byte* from, size_t length);

}  // namespace vhdkit::vmbus
