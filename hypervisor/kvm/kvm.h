// The machine's KVM: whether it can run our guests at all, and what it has for them.
#pragma once

#include <linux/kvm.h>

#include <string>
#include <vector>

#include "support/descriptor.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

class Kvm {
 public:
  // Asks for every capability that the partition needs. Errors: not_found, permission (no such
  // device, no right to it); unsupported, naming the capability that is missing.
  static Result<Kvm> open(const std::string& path = "/dev/kvm");

  int descriptor() const { return descriptor_.number(); }
  // Of the memory that KVM shares with each processor's thread.
  size_t run_bytes() const { return run_bytes_; }
  unsigned max_processors() const { return max_processors_; }
  // Whether guests should end interrupts by Hyper-V's registers of the local APIC (TLFS, "Virtual
  // Interrupt Control"): KVM has them, with the EOI assist, which spares most ends an exit; and
  // APICv and AVIC are off, with which no end by the APIC's own register leaves the guest, and each
  // of these would.
  bool has_eoi_assist() const { return has_eoi_assist_; }

  // What processors can be given, KVM's own leaves at 0x40000000 included.
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;

 private:
  explicit Kvm(Descriptor descriptor) : descriptor_(std::move(descriptor)) {}
  Result<void> ask();

  Descriptor descriptor_;
  size_t run_bytes_ = 0;
  unsigned max_processors_ = 0;
  bool has_eoi_assist_ = false;
};

// An ioctl, with its name in the error.
Result<int> control(int descriptor, unsigned long request, const char* name,
                    unsigned long argument = 0);
template <class T>
Result<int> control(int descriptor, unsigned long request, const char* name, T* argument) {
  return control(descriptor, request, name, reinterpret_cast<unsigned long>(argument));
}

}  // namespace vhdkit::hypervisor
