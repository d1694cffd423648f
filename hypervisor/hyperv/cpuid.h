// What the guest's processors say of themselves.
#pragma once

#include <linux/kvm.h>

#include <span>
#include <vector>

namespace vhdkit::hypervisor {

struct Topology {
  unsigned processor_count = 1;  // each a core of one socket
  // The time stamp counters of all processors count alike, whatever happens to the host.
  bool tsc_is_sound = false;
  bool has_eoi_assist = false;  // as Kvm has it
};

// supported: what KVM has to offer, Kvm::supported_cpuid(). Whatever says "KVM" is left out, since
// Linux would believe it; in its place stand Hyper-V's leaves with the privileges that are kept:
// hypercalls, SynIC, clocks, frequencies, reset and crash registers, perhaps the local APIC's.
// TLFS, "Feature and Interface Discovery".
std::vector<kvm_cpuid_entry2> guest_cpuid(std::span<const kvm_cpuid_entry2> supported,
                                          unsigned processor, const Topology& topology);

}  // namespace vhdkit::hypervisor
