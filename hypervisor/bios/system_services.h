// INT 15h: what a PC is and has, but for its memory.
#pragma once

#include <chrono>
#include <optional>

#include "hypervisor/bios/call.h"

namespace vhdkit::hypervisor {

// The A20 line (always open: 2400h fails, 2401h to 2403h tell so), the keyboard's hook 4Fh, events
// of the operating system (52h, 80h to 82h, 85h, 90h, 91h), waiting (86h), the configuration (C0h,
// C1h), and of APM 1.2 in real mode as much as switches the machine off. Everything else is
// refused.
class SystemServices {
 public:
  using Time = std::chrono::steady_clock::time_point;

  BiosAnswer answer(BiosCall& call, Time now);

 private:
  struct Wait {
    uint32_t stack;  // of the caller
    Time end;
  };

  void answer_a20(BiosCall& call) const;
  BiosAnswer wait(BiosCall& call, Time now);
  BiosAnswer answer_apm(BiosCall& call);

  std::optional<Wait> wait_;
  bool is_apm_connected_ = false;
};

}  // namespace vhdkit::hypervisor
