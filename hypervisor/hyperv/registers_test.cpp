#include "hypervisor/hyperv/registers.h"

#include <doctest/doctest.h>

#include <cstring>

#include "hypervisor/hyperv/hypercalls.h"
#include "vmbus/test_memory.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint32_t guest_os_id = 0x4000'0000;
constexpr uint32_t hypercall = 0x4000'0001;
constexpr uint32_t reference_tsc = 0x4000'0021;
constexpr uint32_t crash_p0 = 0x4000'0100;
constexpr uint32_t crash_control = 0x4000'0105;
constexpr uint64_t linux_6_1 = 0x8100000601C00000;

struct Fixture {
  explicit Fixture(std::optional<TscScale> scale = TscScale(1'000'000'000, 0)) {
    registers.reset({.scale = scale,
                     .now = [](uint32_t vp) { return 1000 + vp; },
                     .tsc_hz = 1'000'000'000,
                     .apic_hz = 200'000'000});
  }
  bool page_is_written(uint64_t number) {
    const auto code = hypercall_page();
    return std::memcmp(memory.page(number), code.data(), code.size()) == 0;
  }

  vmbus::TestMemory memory{16};
  Synic synic{memory, 4, [] {}};
  int reset_count = 0;
  std::vector<Crash> crashes;
  Registers registers{memory,
                      synic,
                      4,
                      {.reset = [this] { ++reset_count; },
                       .crash = [this](const Crash& crash) { crashes.push_back(crash); }}};
};

TEST_CASE("what a processor reads of itself and of the clocks") {
  Fixture fixture;
  CHECK(fixture.registers.read(3, 0x4000'0002) == 3);
  CHECK(fixture.registers.read(2, 0x4000'0020) == 1002);
  CHECK(fixture.registers.read(0, 0x4000'0022) == 1'000'000'000);
  CHECK(fixture.registers.read(0, 0x4000'0023) == 200'000'000);
  CHECK_FALSE(fixture.registers.write(0, 0x4000'0002, 1));
  CHECK_FALSE(fixture.registers.write(0, 0x4000'0022, 1));
}

TEST_CASE("the hypercall page is there once the guest has said who it is, and reads back") {
  Fixture fixture;
  CHECK(fixture.registers.write(0, hypercall, 0x5001));
  CHECK(fixture.registers.read(0, hypercall) == 0x5000);
  CHECK_FALSE(fixture.page_is_written(5));
  CHECK(fixture.registers.write(0, guest_os_id, linux_6_1));
  CHECK(fixture.registers.read(1, guest_os_id) == linux_6_1);
  CHECK(fixture.registers.write(0, hypercall, 0x5001));
  CHECK(fixture.registers.read(0, hypercall) == 0x5001);
  CHECK(fixture.page_is_written(5));
  CHECK_FALSE(fixture.registers.write(0, hypercall, 0x7fff'0000'0001));
  // A guest that leaves takes it away.
  CHECK(fixture.registers.write(0, guest_os_id, 0));
  CHECK(fixture.registers.read(0, hypercall) == 0x5000);
}

TEST_CASE("a locked hypercall page stays where it is") {
  Fixture fixture;
  CHECK(fixture.registers.write(0, guest_os_id, linux_6_1));
  CHECK(fixture.registers.write(0, hypercall, 0x5003));
  CHECK(fixture.registers.write(0, hypercall, 0x6001));
  CHECK(fixture.registers.read(0, hypercall) == 0x5003);
  CHECK_FALSE(fixture.page_is_written(6));
}

TEST_CASE("the page with the clock is written where the guest wants it") {
  Fixture fixture;
  CHECK(fixture.registers.write(0, reference_tsc, 0x6001));
  CHECK(fixture.registers.read(0, reference_tsc) == 0x6001);
  uint64_t scale;
  std::memcpy(&scale, fixture.memory.page(6) + 8, 8);
  CHECK(scale == TscScale(1'000'000'000, 0).scale());
  CHECK_FALSE(fixture.registers.write(0, reference_tsc, 0x1'0000'0001));
  CHECK(fixture.registers.write(0, 0x4000'0118, 1));
  CHECK(fixture.registers.read(0, 0x4000'0118) == 1);
}

TEST_CASE("counters that are not sound are never said to be invariant") {
  Fixture fixture(std::nullopt);
  CHECK_FALSE(fixture.registers.write(0, 0x4000'0118, 1));
  CHECK_FALSE(fixture.registers.read(0, 0x4000'0118));
  CHECK(fixture.registers.write(0, reference_tsc, 0x6001));
  CHECK(fixture.memory.page(6)[0] == std::byte{0});
}

TEST_CASE("a crash brings its parameters and the end of the guest's log") {
  Fixture fixture;
  std::memcpy(fixture.memory.page(7) + 16, "Kernel panic", 12);
  for (uint32_t i = 0; i < 3; ++i) CHECK(fixture.registers.write(1, crash_p0 + i, i + 10));
  CHECK(fixture.registers.write(1, crash_p0 + 3, 0x7010));
  CHECK(fixture.registers.write(1, crash_p0 + 4, 12));
  CHECK(fixture.registers.read(1, crash_control) == uint64_t{3} << 62);
  CHECK(fixture.registers.write(1, crash_control, uint64_t{3} << 62));
  REQUIRE(fixture.crashes.size() == 1);
  CHECK(fixture.crashes[0].parameters[1] == 11);
  CHECK(fixture.crashes[0].message == "Kernel panic");
  // A length that lies stops at the page's end; an address that is none gives no message.
  CHECK(fixture.registers.write(1, crash_p0 + 4, ~uint64_t{0}));
  CHECK(fixture.registers.write(1, crash_control, uint64_t{3} << 62));
  CHECK(fixture.crashes[1].message.size() == 4096 - 16);
  CHECK(fixture.registers.write(1, crash_p0 + 3, 0x7fff'0000'0000));
  CHECK(fixture.registers.write(1, crash_control, uint64_t{3} << 62));
  CHECK(fixture.crashes[2].message.empty());
}

TEST_CASE("the reset register resets, and unknown registers fault") {
  Fixture fixture;
  CHECK(fixture.registers.write(0, 0x4000'0003, 0));
  CHECK(fixture.reset_count == 0);
  CHECK(fixture.registers.write(0, 0x4000'0003, 1));
  CHECK(fixture.reset_count == 1);
  for (const uint32_t index : {0x4000'0070U, 0x4000'00b0U, 0x4000'0106U, 0x3aU, 0xc001'1028U}) {
    CHECK_FALSE(fixture.registers.read(0, index));
    CHECK_FALSE(fixture.registers.write(0, index, 0));
  }
  CHECK(fixture.registers.write(2, 0x4000'0073, 0x7001));
  CHECK(fixture.registers.read(2, 0x4000'0073) == 0x7001);
  CHECK(fixture.registers.read(1, 0x4000'0073) == 0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
