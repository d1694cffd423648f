// INT 12h, and what INT 15h knows of memory: how much there is, and copies of what lies above 1
// MiB.
#pragma once

#include <vector>

#include "hypervisor/bios/call.h"
#include "hypervisor/boot/memory_map.h"
#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {

class MemoryServices {
 public:
  // The memory outlives it.
  explicit MemoryServices(GuestRam& ram);

  // INT 12h: the KiB below 640, as the guest's variables have them.
  void answer_size(BiosCall& call) const;

  // INT 15h. False: it is none of these: AX = E820h and E801h, AH = 87h and 88h.
  bool answer(BiosCall& call);

 private:
  void tell_range(BiosCall& call);
  void tell_sizes(BiosCall& call) const;
  void tell_extended_size(BiosCall& call) const;
  void move_block(BiosCall& call);

  GuestRam& ram_;
  std::vector<MemoryRange> map_;
  uint64_t low_end_;
};

}  // namespace vhdkit::hypervisor
