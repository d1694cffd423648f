// A processor's call to its firmware, out of KVM's registers and back into them.
#pragma once

#include "hypervisor/bios/call.h"
#include "hypervisor/kvm/guest_ram.h"
#include "hypervisor/kvm/processor.h"

namespace vhdkit::hypervisor {

// Whether the processor is in real mode: else the port is nobody's.
bool is_in_real_mode(const kvm_sregs& special);
// Whether it uses pages, as kernels do and loaders do not.
bool uses_pages(const kvm_sregs& special);

// The stack of a processor that calls, from its top on: the vector, instruction and segment to
// return to, the caller's flags (bios/stub.S). Errors: out_of_range where it is not all RAM.
Result<BiosCall> take_call(GuestRam& ram, const kvm_regs& registers, const kvm_sregs& special);

// Puts the answer into registers and stack. The segments that an answer sets are put into special:
// true where they are others than before.
Result<bool> give_answer(GuestRam& ram, const BiosCall& call, bool comes_again, kvm_regs& registers,
                         kvm_sregs& special);

}  // namespace vhdkit::hypervisor
