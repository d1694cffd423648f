// INT 1Ah: ticks since midnight, and the clock that tells the date.
#pragma once

#include <array>

#include "hypervisor/bios/call.h"
#include "hypervisor/devices/ports.h"
#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {

// Functions 00h to 05h; the clock is read and set by its ports. There are no alarms, and none of
// what others put behind this interrupt (PCI, PXE, TPM): all that is refused.
class TimeServices {
 public:
  // Both outlive it.
  TimeServices(GuestRam& ram, const Ports& ports) : ram_(ram), ports_(ports) {}

  // Ticks that the day has had, by the clock.
  uint32_t ticks_of_day() const;
  void answer(BiosCall& call);

 private:
  uint8_t read_clock(uint8_t index) const;
  template <size_t count>
  std::array<uint8_t, count> read_together(const std::array<uint8_t, count>& indices) const;
  void write_clock(uint8_t index, uint8_t value) const;
  void hold_clock(bool is_held) const;
  void tell_ticks(BiosCall& call);
  void set_ticks(const BiosCall& call);

  GuestRam& ram_;
  const Ports& ports_;
};

}  // namespace vhdkit::hypervisor
