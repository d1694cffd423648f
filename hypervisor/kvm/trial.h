// Whether a KVM that has every capability really runs 64-bit code.
#pragma once

#include "hypervisor/kvm/kvm.h"

namespace vhdkit::hypervisor {

// Runs a few instructions of 64-bit code, in the kernel's mode and in a program's, in a machine of
// its own. Errors: unsupported, with what went wrong: some KVMs have neither VMX nor SVM
// underneath, offer all that we ask for, and then fail in a stock kernel.
Result<void> try_long_mode(const Kvm& kvm);

}  // namespace vhdkit::hypervisor
