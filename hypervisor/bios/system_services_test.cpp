#include "hypervisor/bios/system_services.h"

#include "hypervisor/bios/test_pc.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::has_carry;
using tests::Pc;
using namespace std::chrono_literals;

BiosCall system(Pc& pc, BiosCall call) { return pc.call(Service::system, call); }

// RBIL, "INT 15/AX=2400h" to "2403h".
TEST_CASE("the A20 line is open, and cannot be closed") {
  Pc pc;
  const auto closed = system(pc, {.eax = 0x2400});
  CHECK(has_carry(closed));
  CHECK(closed.ah() == 0x86);
  const auto opened = system(pc, {.eax = 0x2401, .flags = 1});
  CHECK_FALSE(has_carry(opened));
  CHECK(opened.ah() == 0);
  const auto status = system(pc, {.eax = 0x2402, .ecx = 0xffff, .flags = 1});
  CHECK_FALSE(has_carry(status));
  CHECK(status.ax() == 0x0001);
  const auto support = system(pc, {.eax = 0x2403, .flags = 1});
  CHECK_FALSE(has_carry(support));
  CHECK(support.ah() == 0);
  CHECK(support.bx() == 0x0002);
  CHECK(has_carry(system(pc, {.eax = 0x2404})));
}

TEST_CASE("what an operating system hooks succeeds, and a key is nobody's") {
  Pc pc;
  for (const uint32_t eax : {0x5200U, 0x8000U, 0x8100U, 0x8200U, 0x8500U, 0x9000U, 0x9180U}) {
    CAPTURE(eax);
    const auto done = system(pc, {.eax = eax, .flags = 1});
    CHECK_FALSE(has_carry(done));
    CHECK(done.ah() == 0);
  }
  const auto key = system(pc, {.eax = 0x4f1e});
  CHECK(has_carry(key));
  CHECK(key.al() == 0x1e);
}

TEST_CASE("functions that there are not are refused") {
  Pc pc;
  for (const uint32_t eax : {0x0000U, 0x2300U, 0x8300U, 0x8400U, 0x8900U, 0xc200U, 0xc400U, 0xd800U,
                             0xe802U, 0xe881U, 0xe980U, 0xec00U, 0xffffU}) {
    CAPTURE(eax);
    const auto refused = system(pc, {.eax = eax, .ebx = 2});
    CHECK(has_carry(refused));
    CHECK(refused.ah() == 0x86);
    CHECK(refused.al() == uint8_t(eax));
  }
}

TEST_CASE("waiting takes as long as asked for, with interrupts in between") {
  Pc pc;
  const auto begin = pc.now;
  BiosCall call{.eax = 0x8600, .ecx = 0x0001, .edx = 0x0000, .stack = 0x7000};  // 65536 us
  int again = 0;
  while (pc.ask(Service::system, call) == BiosAnswer::again) ++again;
  CHECK(again == 14);  // pauses of 5 ms
  CHECK(pc.now - begin == 70ms);
  CHECK_FALSE(has_carry(call));
  CHECK(call.ah() == 0);
  // Whoever waits while another one does has its own time.
  BiosCall longest{.eax = 0x8600, .ecx = 0xffff, .edx = 0xffff, .stack = 0x7000};
  CHECK(pc.ask(Service::system, longest) == BiosAnswer::again);
  BiosCall none{.eax = 0x8600, .stack = 0x6000};
  CHECK(pc.ask(Service::system, none) == BiosAnswer::done);
}

// RBIL, "INT 15/AH=C0h", table 00509; "INT 15/AH=C1h".
TEST_CASE("the configuration is in the BIOS, and the data area where memory ends") {
  Pc pc;
  REQUIRE_OK(pc.bios->boot());
  const auto table = system(pc, {.eax = 0xc000, .flags = 1});
  CHECK_FALSE(has_carry(table));
  CHECK(table.ah() == 0);
  const uint64_t address = table.es * uint64_t{16} + table.bx();
  CHECK(pc.value<uint16_t>(address) == 8);
  CHECK(pc.value<uint8_t>(address + 2) == 0xfc);
  CHECK(pc.value<uint8_t>(address + 5) == 0x64);  // two 8259s, a clock, an extended data area
  const auto data = system(pc, {.eax = 0xc100, .flags = 1});
  CHECK_FALSE(has_carry(data));
  CHECK(data.es == 0x9fc0);
  CHECK(pc.value<uint8_t>(0x9'fc00) == 1);
}

// APM 1.2, chapter 4: 00h, 01h, 04h, 07h, 0Eh; the order is GRUB's.
TEST_CASE("the machine is switched off by APM, by whoever is connected to it") {
  Pc pc;
  BiosCall off{.eax = 0x5307, .ebx = 1, .ecx = 3};
  CHECK(pc.ask(Service::system, off) == BiosAnswer::done);
  CHECK(has_carry(off));
  CHECK(off.ah() == 0x03);
  const auto there = system(pc, {.eax = 0x5300, .ebx = 0, .ecx = 0xffff, .flags = 1});
  CHECK_FALSE(has_carry(there));
  CHECK(there.ax() == 0x0102);
  CHECK(there.bx() == 0x504d);
  CHECK(there.cx() == 0);
  CHECK(system(pc, {.eax = 0x5304, .ebx = 0}).ah() == 0x03);
  CHECK_FALSE(has_carry(system(pc, {.eax = 0x5301, .ebx = 0})));
  CHECK(system(pc, {.eax = 0x5301, .ebx = 0}).ah() == 0x02);
  CHECK_FALSE(has_carry(system(pc, {.eax = 0x530e, .ebx = 0, .ecx = 0x0101})));
  CHECK(has_carry(system(pc, {.eax = 0x5307, .ebx = 1, .ecx = 2})));
  CHECK(system(pc, {.eax = 0x5302, .ebx = 0}).ah() == 0x0c);
  CHECK(system(pc, {.eax = 0x5300, .ebx = 7}).ah() == 0x09);
  off = {.eax = 0x5307, .ebx = 1, .ecx = 3};
  CHECK(pc.ask(Service::system, off) == BiosAnswer::power_off);
}

}  // namespace
}  // namespace vhdkit::hypervisor
