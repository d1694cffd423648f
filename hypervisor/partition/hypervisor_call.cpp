#include "hypervisor/partition/hypervisor_call.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint64_t long_mode_is_active = uint64_t{1} << 10;  // of EFER

bool runs_64_bit_code(const kvm_sregs& special) {
  return (special.efer & long_mode_is_active) != 0 && special.cs.l != 0;
}

uint64_t joined(uint64_t high, uint64_t low) { return high << 32 | uint32_t(low); }

}  // namespace

Hypercall take_hypercall(const kvm_regs& registers, const kvm_sregs& special) {
  if (runs_64_bit_code(special)) return {.control = registers.rcx, .input = registers.rdx};
  return {.control = joined(registers.rdx, registers.rax),
          .input = joined(registers.rbx, registers.rcx)};
}

void give_result(uint64_t result, kvm_regs& registers, const kvm_sregs& special) {
  if (runs_64_bit_code(special)) {
    registers.rax = result;
  } else {
    registers.rax = uint32_t(result);
    registers.rdx = result >> 32;
  }
}

}  // namespace vhdkit::hypervisor
