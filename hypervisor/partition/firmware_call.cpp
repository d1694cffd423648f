#include "hypervisor/partition/firmware_call.h"

#include <asm/processor-flags.h>

#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

struct CallStack {
  le16 vector;
  le16 instruction;
  le16 segment;
  le16 flags;
};
static_assert(OnDisk<CallStack>);

uint64_t stack_address(const kvm_regs& registers, const kvm_sregs& special) {
  return uint32_t(special.ss.base + uint16_t(registers.rsp));
}

}  // namespace

bool is_in_real_mode(const kvm_sregs& special) { return (special.cr0 & X86_CR0_PE) == 0; }

bool uses_pages(const kvm_sregs& special) { return (special.cr0 & X86_CR0_PG) != 0; }

Result<BiosCall> take_call(GuestRam& ram, const kvm_regs& registers, const kvm_sregs& special) {
  const uint64_t address = stack_address(registers, special);
  const auto stack = load<CallStack>(ram.range(address, sizeof(CallStack)));
  if (!stack) return fail(Errc::out_of_range, "a call to the firmware whose stack is not all RAM");
  return BiosCall{.vector = uint8_t(stack->vector),
                  .eax = uint32_t(registers.rax),
                  .ebx = uint32_t(registers.rbx),
                  .ecx = uint32_t(registers.rcx),
                  .edx = uint32_t(registers.rdx),
                  .esi = uint32_t(registers.rsi),
                  .edi = uint32_t(registers.rdi),
                  .ebp = uint32_t(registers.rbp),
                  .ds = special.ds.selector,
                  .es = special.es.selector,
                  .flags = stack->flags,
                  .stack = uint32_t(address)};
}

Result<bool> give_answer(GuestRam& ram, const BiosCall& call, bool comes_again, kvm_regs& registers,
                         kvm_sregs& special) {
  registers.rax = call.eax;
  registers.rbx = call.ebx;
  registers.rcx = call.ecx;
  registers.rdx = call.edx;
  registers.rbp = call.ebp;
  registers.rflags =
      comes_again ? registers.rflags | X86_EFLAGS_CF : registers.rflags & ~uint64_t{X86_EFLAGS_CF};
  TRY(ram.write(stack_address(registers, special) + offsetof(CallStack, flags),
                bytes_of(le16(call.flags))));
  if (call.es == special.es.selector) return false;
  special.es.selector = call.es;
  special.es.base = uint64_t{call.es} * 16;
  return true;
}

}  // namespace vhdkit::hypervisor
