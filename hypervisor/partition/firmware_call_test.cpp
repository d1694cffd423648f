#include "hypervisor/partition/firmware_call.h"

#include <doctest/doctest.h>

#include "hypervisor/boot/test_kernel.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::make_ram;
using tests::mib;
using tests::value_at;

struct Caller {
  // SS:SP is 9000:FFF0. On the stack: vector, instruction, segment, flags.
  Caller() : ram(make_ram(16 * mib)) {
    special.ss.selector = 0x9000;
    special.ss.base = 0x9'0000;
    special.ds.selector = 0x1234;
    special.es.selector = 0x5678;
    special.es.base = 0x5'6780;
    registers.rsp = 0xabcd'fff0;
    registers.rax = 0x1111'1111'2222'3344;
    registers.rflags = 0x46;
    put({0x13, 0x0500, 0x0070, 0x0202});
  }
  void put(std::array<uint16_t, 4> words) {
    REQUIRE_OK(ram->write(0x9'fff0, std::as_bytes(std::span(words))));
  }

  std::unique_ptr<GuestRam> ram;
  kvm_regs registers{};
  kvm_sregs special{};
};

TEST_CASE("a call has its caller's registers, and the flags from the stack") {
  Caller caller;
  caller.registers.rbx = 0xb;
  caller.registers.rcx = 0xc;
  caller.registers.rdx = 0xd;
  caller.registers.rsi = 0x51;
  caller.registers.rdi = 0xd1;
  caller.registers.rbp = 0xb9;
  const auto call = take_call(*caller.ram, caller.registers, caller.special);
  REQUIRE_OK(call);
  CHECK(call->vector == 0x13);
  CHECK(call->eax == 0x2222'3344);
  CHECK(call->ebx == 0xb);
  CHECK(call->ecx == 0xc);
  CHECK(call->edx == 0xd);
  CHECK(call->esi == 0x51);
  CHECK(call->edi == 0xd1);
  CHECK(call->ebp == 0xb9);
  CHECK(call->ds == 0x1234);
  CHECK(call->es == 0x5678);
  CHECK(call->flags == 0x0202);
}

TEST_CASE("an answer is in the registers, its flags where the interrupt takes them from") {
  Caller caller;
  auto call = take_call(*caller.ram, caller.registers, caller.special);
  REQUIRE_OK(call);
  call->eax = 0x8600;
  call->ebx = 1;
  call->ecx = 2;
  call->edx = 3;
  call->flags = 0x0203;
  auto moved = give_answer(*caller.ram, *call, false, caller.registers, caller.special);
  REQUIRE_OK(moved);
  CHECK_FALSE(*moved);
  CHECK(caller.registers.rax == 0x8600);
  CHECK(caller.registers.rbx == 1);
  CHECK(caller.registers.rcx == 2);
  CHECK(caller.registers.rdx == 3);
  CHECK(caller.registers.rsp == 0xabcd'fff0);
  CHECK(value_at<uint16_t>(*caller.ram, 0x9'fff6) == 0x0203);
  CHECK(value_at<uint16_t>(*caller.ram, 0x9'fff2) == 0x0500);
  CHECK(caller.registers.rflags == 0x46);
  call->es = 0xf000;
  call->ebp = 0xf010;
  moved = give_answer(*caller.ram, *call, false, caller.registers, caller.special);
  REQUIRE_OK(moved);
  CHECK(*moved);
  CHECK(caller.special.es.selector == 0xf000);
  CHECK(caller.special.es.base == 0xf'0000);
  CHECK(caller.registers.rbp == 0xf010);
}

// bios/stub.S tells by the processor's own carry.
TEST_CASE("a call that comes again is told by carry, and one that is over by none") {
  Caller caller;
  const auto call = take_call(*caller.ram, caller.registers, caller.special);
  REQUIRE_OK(call);
  REQUIRE_OK(give_answer(*caller.ram, *call, true, caller.registers, caller.special));
  CHECK(caller.registers.rflags == 0x47);
  CHECK(value_at<uint16_t>(*caller.ram, 0x9'fff6) == 0x0202);
  REQUIRE_OK(give_answer(*caller.ram, *call, false, caller.registers, caller.special));
  CHECK(caller.registers.rflags == 0x46);
}

TEST_CASE("a stack that is no memory is no call") {
  Caller caller;
  for (const uint64_t base : {uint64_t{16 * mib}, 16 * mib - 0xfff7, uint64_t{0xffff'0000}}) {
    CAPTURE(base);
    caller.special.ss.base = base;
    REQUIRE_FAILS(Errc::out_of_range, "stack",
                  take_call(*caller.ram, caller.registers, caller.special));
  }
}

TEST_CASE("real mode and pages are told by CR0") {
  kvm_sregs special{};
  special.cr0 = 0x10;
  CHECK(is_in_real_mode(special));
  CHECK_FALSE(uses_pages(special));
  special.cr0 = 0x11;
  CHECK_FALSE(is_in_real_mode(special));
  CHECK_FALSE(uses_pages(special));
  special.cr0 = 0x8000'0011;
  CHECK_FALSE(is_in_real_mode(special));
  CHECK(uses_pages(special));
}

}  // namespace
}  // namespace vhdkit::hypervisor
