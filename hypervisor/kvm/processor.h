// One of the partition's processors, as KVM runs it.
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <memory>
#include <span>

#include "hypervisor/boot/entry.h"
#include "hypervisor/kvm/kvm.h"

namespace vhdkit::hypervisor {

// Bound to the thread that runs it, but for what says otherwise.
class Processor {
 public:
  // index: below 256; its local APIC's number too.
  static Result<std::unique_ptr<Processor>> create(const Kvm& kvm, int machine, unsigned index);
  ~Processor();
  Processor(const Processor&) = delete;
  Processor& operator=(const Processor&) = delete;

  unsigned index() const { return index_; }
  Result<void> set_cpuid(std::span<const kvm_cpuid_entry2> entries);
  // As the loaded kernel wants it. Other processors wait for the first one's call.
  Result<void> enter_at(const Entry& entry);
  Result<kvm_regs> registers() const;
  Result<void> set_registers(const kvm_regs& registers);
  Result<kvm_sregs> special_registers() const;
  Result<void> set_special_registers(const kvm_sregs& registers);

  Result<uint64_t> tsc_hz() const;
  Result<uint64_t> read_msr(uint32_t index) const;
  Result<void> write_msr(uint32_t index, uint64_t value);
  // Whether interrupts with the synthetic interrupt's vector need no end by the guest: KVM's own
  // SynIC is switched on for that when it is wanted first, and does nothing else. Errors: that of a
  // KVM without one.
  Result<void> set_auto_eoi(uint8_t sint, uint8_t vector, bool ends_by_itself);
  // The guest's counter shows so much less from now on. REQUIRES: it does not run; any thread.
  // Errors: unsupported: this KVM cannot.
  Result<void> set_tsc_back(uint64_t ticks) const;

  // Runs the guest until it needs something, or somebody kicks. False: kicked, exit() says nothing.
  Result<bool> run();
  // What it needs; the answer goes there too. KVM's "kvm_run", Documentation/virt/kvm/api.rst.
  kvm_run& exit() { return *run_; }
  // The bytes of a port access (KVM_EXIT_IO).
  std::span<std::byte> port_data();

  // Thread-safe. The run that is going on ends, or the next one does at once. thread: the one that
  // runs it.
  void kick(pthread_t thread);

 private:
  Processor(Descriptor descriptor, unsigned index)
      : descriptor_(std::move(descriptor)), index_(index) {}

  Descriptor descriptor_;
  unsigned index_;
  kvm_run* run_ = nullptr;
  size_t run_bytes_ = 0;
  bool has_synic_ = false;  // of KVM's
};

// The signal that ends a run does nothing else. Once in a process, before a processor runs.
void prepare_kicks();

}  // namespace vhdkit::hypervisor
