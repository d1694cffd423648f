// The lists of pages by which a guest hands memory over to the host (GPADLs).
#pragma once

#include <map>
#include <optional>

#include "vmbus/guest_memory.h"

namespace vhdkit::vmbus {

struct Gpadl {
  uint32_t relid;        // the channel that it was made for
  uint32_t byte_offset;  // of the memory, in the first page
  uint32_t byte_count;
  PageList pages;  // in the guest's order
};

// What a guest can make us keep; beyond it a list is refused, and the guest is told so.
struct GpadlLimits {
  size_t gpadl_count = 4096;
  size_t page_count = size_t{1} << 18;  // of all lists together, 1 GiB
};

// Loop-bound; the memory outlives it. Lists come in one header message and as many bodies as they
// need.
class Gpadls {
 public:
  Gpadls(GuestMemory& memory, const GpadlLimits& limits) : memory_(memory), limits_(limits) {}

  // message: a whole gpadl_header. True: the list is complete. Errors: invalid_argument (lengths
  // that contradict each other, a page that is no RAM, a number that is in use); unsupported
  // (several ranges); no_space (a limit). Then nothing is kept of it.
  Result<bool> begin(std::span<const std::byte> message);
  // message: a whole gpadl_body. As begin(); not_found: no list waits for it.
  Result<bool> add(std::span<const std::byte> message);

  // Null unless the list is complete. Until it is torn down.
  const Gpadl* find(uint32_t gpadl) const;
  // Complete or not.
  std::optional<uint32_t> relid_of(uint32_t gpadl) const;
  // Errors: not_found.
  Result<void> tear_down(uint32_t gpadl);
  void tear_down_all_of(uint32_t relid);
  void tear_down_all();

 private:
  struct Growing {
    Gpadl list;
    size_t page_count;  // that it will have
    bool is_complete() const { return list.pages.size() == page_count; }
  };
  using Lists = std::map<uint32_t, Growing>;

  Result<void> check_room(uint32_t gpadl, size_t page_count) const;
  Result<bool> append(Lists::iterator list, std::span<const std::byte> numbers);
  Result<void> look_up_into(Growing& growing, std::span<const std::byte> numbers);
  void forget(Lists::iterator list);

  GuestMemory& memory_;
  GpadlLimits limits_;
  Lists lists_;
  size_t page_count_ = 0;  // that all lists have or will have
};

}  // namespace vhdkit::vmbus
