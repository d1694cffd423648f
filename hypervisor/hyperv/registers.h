// Hyper-V's model-specific registers: who the guest is, hypercalls, clocks, SynIC, reset, crash.
// TLFS, "Synthetic MSRs".
#pragma once

#include <array>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "hypervisor/hyperv/reference_time.h"
#include "hypervisor/hyperv/synic.h"

namespace vhdkit::hypervisor {

// What a guest says before it gives up: TLFS, "Guest Crash Enlightenment".
struct Crash {
  std::array<uint64_t, 5> parameters{};
  std::string message;  // the end of its kernel's log, where it left one
};

// Thread-safe, but for reset().
class Registers {
 public:
  // Called on the thread of the processor that wrote.
  struct Events {
    std::function<void()> reset;
    std::function<void(const Crash&)> crash;
  };
  struct Clock {
    std::optional<TscScale> scale;             // nothing where the counters are not sound
    std::function<uint64_t(uint32_t vp)> now;  // reference time, on the processor's thread
    uint64_t tsc_hz = 0;
    uint64_t apic_hz = 0;
  };

  Registers(vmbus::GuestMemory& memory, Synic& synic, unsigned vp_count, Events events);

  // As when the processors are switched on. REQUIRES: no processor runs.
  void reset(Clock clock);

  // Nothing, false: the guest gets a general protection fault. REQUIRES: the processor exists.
  std::optional<uint64_t> read(uint32_t vp, uint32_t index) const;
  bool write(uint32_t vp, uint32_t index, uint64_t value);

 private:
  bool write_hypercall_page(uint64_t value);
  bool write_reference_tsc(uint64_t value);
  bool write_crash(uint32_t index, uint64_t value);
  Crash crash() const;

  vmbus::GuestMemory& memory_;
  Synic& synic_;
  Events events_;
  Clock clock_;

  mutable std::mutex mutex_;
  uint64_t guest_os_id_ = 0;
  uint64_t hypercall_page_ = 0;
  uint64_t reference_tsc_ = 0;
  uint64_t tsc_invariant_control_ = 0;
  std::vector<uint64_t> assist_pages_;  // by processor
  std::array<uint64_t, 5> crash_parameters_{};
};

}  // namespace vhdkit::hypervisor
