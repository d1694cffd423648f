#include "hypervisor/bios/time_services.h"

#include "hypervisor/bios/test_pc.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::has_carry;
using tests::Pc;

BiosCall time(Pc& pc, BiosCall call) { return pc.call(Service::time, call); }

// RBIL, "INT 1A". The clock says 2026-11-28 13:45:06.
TEST_CASE("time and date are the clock's, in BCD") {
  Pc pc;
  pc.ports.write(0x70, 1, 0x0d);
  const auto now = time(pc, {.eax = 0x0200, .flags = 1});
  CHECK_FALSE(has_carry(now));
  CHECK(now.cx() == 0x1345);
  CHECK(now.dx() == 0x0600);
  const auto today = time(pc, {.eax = 0x0400, .flags = 1});
  CHECK_FALSE(has_carry(today));
  CHECK(today.cx() == 0x2026);
  CHECK(today.dx() == 0x1128);
  CHECK(pc.ports.read(0x70, 1) == 0x0d);  // the guest's index is what it was
}

TEST_CASE("the clock is set") {
  Pc pc;
  CHECK_FALSE(has_carry(time(pc, {.eax = 0x0500, .ecx = 0x1999, .edx = 0x0231})));
  CHECK(time(pc, {.eax = 0x0400}).dx() == 0x0228);  // the nearest that there is
  CHECK_FALSE(has_carry(time(pc, {.eax = 0x0500, .ecx = 0x2000, .edx = 0x0229})));
  CHECK_FALSE(has_carry(time(pc, {.eax = 0x0300, .ecx = 0x2359, .edx = 0x5800})));
  const auto now = time(pc, {.eax = 0x0200});
  CHECK(now.cx() == 0x2359);
  CHECK(now.dx() == 0x5800);
  const auto today = time(pc, {.eax = 0x0400});
  CHECK(today.cx() == 0x2000);
  CHECK(today.dx() == 0x0229);
}

TEST_CASE("ticks are those of the day, 18.2065 in a second") {
  Pc pc;
  REQUIRE_OK(pc.bios->boot());
  const auto ticks = time(pc, {.eax = 0x00ff, .flags = 1});
  CHECK_FALSE(has_carry(ticks));
  CHECK(ticks.al() == 0);
  // (13 * 3600 + 45 * 60 + 6) s * 1193182 Hz / 65536
  CHECK((uint32_t{ticks.cx()} << 16 | ticks.dx()) == 901'331);
}

TEST_CASE("ticks are set, and midnight is told once") {
  Pc pc;
  pc.put_value(0x470, uint8_t{1});
  CHECK_FALSE(has_carry(time(pc, {.eax = 0x0100, .ecx = 0x0012, .edx = 0x3456})));
  CHECK(pc.value<uint32_t>(0x46c) == 0x12'3456);
  CHECK(time(pc, {.eax = 0x0000}).al() == 0);
  pc.put_value(0x470, uint8_t{1});
  const auto told = time(pc, {.eax = 0x0000});
  CHECK(told.al() == 1);
  CHECK(told.cx() == 0x0012);
  CHECK(told.dx() == 0x3456);
  CHECK(time(pc, {.eax = 0x0000}).al() == 0);
}

TEST_CASE("alarms, PCI, PXE and TPM are not there") {
  Pc pc;
  for (const uint32_t eax : {0x0600U, 0x0700U, 0x0a00U, 0x5650U, 0xb101U, 0xbb00U, 0xff00U}) {
    CAPTURE(eax);
    const auto refused = time(pc, {.eax = eax, .edx = 0x1234});
    CHECK(has_carry(refused));
    CHECK(refused.ah() == 0x86);
    CHECK(refused.edx == 0x1234);
  }
}

}  // namespace
}  // namespace vhdkit::hypervisor
