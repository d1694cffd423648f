#include "hypervisor/bios/bios.h"

#include "hypervisor/bios/test_pc.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::has_carry;
using tests::Pc;

TEST_CASE("a boot loader is started as a PC's BIOS does it") {
  Pc pc({4096, 100});
  const auto entry = pc.bios->boot();
  REQUIRE_OK(entry);
  CHECK(entry->mode == Entry::Mode::real_mode);
  CHECK(entry->instruction >= 0xf'0000);
  CHECK(entry->instruction < 0x10'0000);
  CHECK(pc.value<uint8_t>(0x7c00) == 0xf4);
  CHECK(pc.value<uint16_t>(0x7dfe) == 0xaa55);
  CHECK(pc.value<uint8_t>(0x475) == 2);
  // ACPI 6.5, 5.2.5.1: on a 16-byte boundary from E0000h to FFFFFh; DSP0134 2.8, 5.2.
  CHECK(pc.text(0xe'0000, 8) == "RSD PTR ");
  CHECK(pc.text(0xf'0000, 4) == "_SM_");
}

TEST_CASE("disks without a boot loader are told apart") {
  Pc none(std::vector<uint64_t>{});
  REQUIRE_FAILS(Errc::not_found, "no disk", none.bios->boot());
  Pc empty;
  empty.drives[0]->written[0].assign(512, std::byte{0});
  REQUIRE_FAILS(Errc::not_found, "empty", empty.bios->boot());
  Pc unsigned_one;
  unsigned_one.drives[0]->written[0][511] = std::byte{0x55};
  REQUIRE_FAILS(Errc::not_found, "55 AA", unsigned_one.bios->boot());
  Pc partitions;
  partitions.drives[0]->written[0][0] = std::byte{0};
  partitions.drives[0]->written[0][0x1be] = std::byte{0x80};
  REQUIRE_FAILS(Errc::not_found, "no code", partitions.bios->boot());
  Pc broken;
  broken.drives[0]->is_broken = true;
  REQUIRE_FAILS(Errc::io, "broken", broken.bios->boot());
}

TEST_CASE("a loader that gives up ends the machine") {
  Pc pc;
  for (const Service service : {Service::no_boot, Service::bootstrap}) {
    BiosCall call{};
    CHECK(pc.ask(service, call) == BiosAnswer::no_boot);
  }
}

// RBIL, "INT 11", "INT 14", "INT 17".
TEST_CASE("equipment is that of the variables; serial ports and printers do not answer") {
  Pc pc;
  REQUIRE_OK(pc.bios->boot());
  CHECK(pc.call(Service::equipment, {}).ax() == 0x0222);
  CHECK(pc.call(Service::serial, {.eax = 0x0041}).ah() == 0x80);
  CHECK(pc.call(Service::printer, {.eax = 0x0041}).ah() == 0x01);
}

TEST_CASE("vectors that are no service change nothing") {
  Pc pc;
  for (unsigned vector = 0; vector < 256; ++vector) {
    if (vector >= first_service && vector <= last_service) continue;
    BiosCall call{.vector = uint8_t(vector), .eax = 0x1234'5678, .edx = 0x80, .flags = 0x41};
    CHECK(pc.bios->answer(call) == BiosAnswer::done);
    CHECK(call.eax == 0x1234'5678);
    CHECK(call.flags == 0x41);
  }
}

// Whatever the registers say, there is an answer.
TEST_CASE("every function of every service survives registers that cannot be") {
  Pc pc;
  REQUIRE_OK(pc.bios->boot());
  for (const uint32_t extreme : {0x0000'0000U, 0x0000'ffffU, 0x7fff'ffffU, 0xffff'ffffU})
    for (unsigned vector = first_service; vector <= last_service; ++vector)
      for (uint32_t function = 0; function < 0x10000; function += 0x80) {
        BiosCall call{.vector = uint8_t(vector),
                      .eax = function | (extreme & 0xffff'007f),
                      .ebx = extreme,
                      .ecx = extreme,
                      .edx = (extreme & 0xffff'ff00) | 0x80,
                      .esi = extreme,
                      .edi = extreme,
                      .ebp = extreme,
                      .ds = uint16_t(extreme),
                      .es = uint16_t(extreme)};
        const uint16_t flags = call.flags;
        (void)pc.bios->answer(call);
        // No service touches other flags than carry and zero.
        CHECK((call.flags & ~0x41) == (flags & ~0x41));
      }
}

}  // namespace
}  // namespace vhdkit::hypervisor
