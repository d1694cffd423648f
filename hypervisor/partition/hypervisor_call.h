// A processor's call to its hypervisor, out of KVM's registers and back into them. TLFS, "Hypercall
// Inputs" and "Hypercall Outputs", "Register Mapping".
#pragma once

#include "hypervisor/hyperv/hypercalls.h"
#include "hypervisor/kvm/processor.h"

namespace vhdkit::hypervisor {

// 64-bit code has control and input in rcx and rdx; other code has halves of them in edx:eax and
// ebx:ecx.
Hypercall take_hypercall(const kvm_regs& registers, const kvm_sregs& special);
// Into rax; for other code into edx:eax.
void give_result(uint64_t result, kvm_regs& registers, const kvm_sregs& special);

}  // namespace vhdkit::hypervisor
