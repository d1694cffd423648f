// What somebody at the console can say to the runner instead of to the guest.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace vhdkit::hypervisor {

// Ctrl-A and another key, as QEMU's users know it: x leaves, p asks the guest to power off, h asks
// for help, a or Ctrl-A again is a Ctrl-A for the guest, and everything else is nothing.
class Escapes {
 public:
  struct Typed {
    std::vector<std::byte> for_guest;
    bool wants_to_leave = false;
    bool wants_power_off = false;
    bool wants_help = false;
  };
  Typed take(std::span<const std::byte> bytes);

 private:
  bool is_escaped_ = false;  // the last byte was a Ctrl-A
};

}  // namespace vhdkit::hypervisor
