// A virtual machine of KVM's: memory, interrupt controllers, and the ways in and out that stay in
// the kernel.
#pragma once

#include <map>
#include <mutex>
#include <optional>

#include "hypervisor/kvm/guest_ram.h"
#include "hypervisor/kvm/processor.h"

namespace vhdkit::hypervisor {

// Thread-safe. KVM and the RAM outlive it; it outlives its processors.
class VirtualMachine {
 public:
  // With local APICs and an I/O APIC of 24 pins in the kernel. Reads and writes of Hyper-V's
  // model-specific registers, and of those that KVM does not know, come to us; but for those of the
  // local APIC where KVM has the EOI assist.
  static Result<std::unique_ptr<VirtualMachine>> create(const Kvm& kvm, const GuestRam& ram);
  // With nothing but memory, for a processor that needs no more: each part takes the kernel a while
  // to make, and to take down.
  static Result<std::unique_ptr<VirtualMachine>> create_bare(const Kvm& kvm, const GuestRam& ram);

  Result<std::unique_ptr<Processor>> create_processor(unsigned index) const;

  // 100 ns since start_clock(), which says whether the kernel finds the time stamp counters sound:
  // that all processors can tell the time by them. REQUIRES of start_clock(): all processors are
  // there, and none runs.
  Result<bool> start_clock() const;
  uint64_t clock_ticks() const;
  // 100 ns since start_clock() are these from now on. REQUIRES: no processor runs.
  Result<void> set_clock(uint64_t ticks) const;

  // The 8259s, which KVM makes with its interrupt controllers, say nothing any more. Before a
  // processor runs.
  Result<void> mask_8259s() const;

  // --- what firmware has on a PC, for as long as there is firmware ---

  // An 8254 timer at its ports and on IRQ 0, with the second channel's gate at port 61h. Before a
  // processor runs. Errors: unsupported (this KVM has none).
  Result<void> add_timer() const;
  // A kernel has taken over that may not know the 8259s, nor mask them: where they are still as
  // firmware set them up, with IRQ 0 at this vector, they are masked, and the timer stops.
  Result<void> retire_timer(uint8_t firmware_vector) const;

  // --- interrupts: an eventfd each, which anybody may write to ---

  // A pin of the I/O APIC, edge triggered. Lives as long as the machine.
  Result<int> pin_event(uint32_t pin);
  // A message-signalled interrupt for a processor. The route may change while the guest runs.
  Result<int> message_event(uint32_t route, unsigned processor, uint8_t vector);

  // --- signals ---

  // The guest writes the value, 4 bytes, to the port: the eventfd is written to, and the guest goes
  // on without leaving the kernel.
  Result<void> connect_signal(uint16_t port, uint32_t value, int event);
  Result<void> disconnect_signal(uint16_t port, uint32_t value, int event);

 private:
  struct Route {
    unsigned processor;
    uint8_t vector;
    Descriptor event;
  };

  VirtualMachine(const Kvm& kvm, Descriptor descriptor)
      : kvm_(kvm), descriptor_(std::move(descriptor)) {}
  Result<void> add_memory(const GuestRam& ram) const;
  Result<void> give_own_pages() const;
  Result<void> add_interrupt_controllers() const;
  Result<void> take_registers() const;
  Result<void> set_routes();
  Result<Descriptor> connect_interrupt(uint32_t number) const;
  Result<void> change_signal(uint16_t port, uint32_t value, int event, bool is_connected) const;

  const Kvm& kvm_;
  Descriptor descriptor_;
  std::mutex mutex_;
  std::map<uint32_t, Descriptor> pins_;
  std::map<uint32_t, Route> routes_;
};

}  // namespace vhdkit::hypervisor
