#include "hypervisor/partition/hypervisor_call.h"

#include <doctest/doctest.h>

namespace vhdkit::hypervisor {
namespace {

struct Caller {
  Caller() {
    registers.rax = 0x1111'1111'0001'005d;
    registers.rbx = 0x2222'2222'0000'00b0;
    registers.rcx = 0x3333'3333'0000'00c0;
    registers.rdx = 0x4444'4444'0000'00d0;
  }
  kvm_regs registers{};
  kvm_sregs special{};
};

TEST_CASE("64-bit code calls by rcx and rdx, and gets rax") {
  Caller caller;
  caller.special.efer = 0x500;
  caller.special.cs.l = 1;
  const Hypercall call = take_hypercall(caller.registers, caller.special);
  CHECK(call.control == 0x3333'3333'0000'00c0);
  CHECK(call.input == 0x4444'4444'0000'00d0);
  give_result(0x5'0000'0006, caller.registers, caller.special);
  CHECK(caller.registers.rax == 0x5'0000'0006);
  CHECK(caller.registers.rdx == 0x4444'4444'0000'00d0);
}

// As Linux's hv_do_hypercall() for i386: "A" control, "b" and "c" the input.
TEST_CASE("32-bit code calls by edx:eax and ebx:ecx, and gets edx:eax") {
  Caller caller;
  SUBCASE("of a 32-bit kernel") {}
  SUBCASE("of a program under a 64-bit one") { caller.special.efer = 0x500; }
  const Hypercall call = take_hypercall(caller.registers, caller.special);
  CHECK(call.control == 0x0000'00d0'0001'005d);
  CHECK(call.input == 0x0000'00b0'0000'00c0);
  give_result(0x5'0000'0006, caller.registers, caller.special);
  CHECK(caller.registers.rax == 6);
  CHECK(caller.registers.rdx == 5);
  CHECK(caller.registers.rcx == 0x3333'3333'0000'00c0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
