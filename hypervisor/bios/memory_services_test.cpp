#include "hypervisor/bios/memory_services.h"

#include "hypervisor/bios/test_pc.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::has_carry;
using tests::has_zero;
using tests::mib;
using tests::Pc;

BiosCall system(Pc& pc, BiosCall call) { return pc.call(Service::system, call); }

struct Range {
  uint64_t address;
  uint64_t byte_count;
  uint32_t type;

  friend bool operator==(const Range&, const Range&) = default;
};

BiosCall ask_range(Pc& pc, uint32_t number) {
  return system(
      pc, {.eax = 0xe820, .ebx = number, .ecx = 20, .edx = 0x534d'4150, .edi = 0x20, .es = 0x4000});
}

std::vector<Range> map_of(Pc& pc) {
  std::vector<Range> map;
  uint32_t number = 0;
  do {
    const auto told = ask_range(pc, number);
    REQUIRE_FALSE(has_carry(told));
    CHECK(told.eax == 0x534d'4150);
    CHECK(told.ecx == 20);
    map.push_back(
        {pc.value<uint64_t>(0x40020), pc.value<uint64_t>(0x40028), pc.value<uint32_t>(0x40030)});
    number = told.ebx;
  } while (number != 0 && map.size() < 100);
  return map;
}

// ACPI 6.5, 15.1 "INT 15H, E820H": 1 is memory, 2 reserved.
TEST_CASE("the map leaves out what is the BIOS's") {
  Pc small({4096}, 64 * mib);
  CHECK(map_of(small) == std::vector<Range>{{0, 0x9'fc00, 1},
                                            {0x9'fc00, 0x400, 2},
                                            {0xe'0000, 0x2'0000, 2},
                                            {0x10'0000, 63 * mib, 1}});
  Pc large({4096}, 4096 * mib);
  CHECK(map_of(large) == std::vector<Range>{{0, 0x9'fc00, 1},
                                            {0x9'fc00, 0x400, 2},
                                            {0xe'0000, 0x2'0000, 2},
                                            {0x10'0000, 3071 * mib, 1},
                                            {4096 * mib, 1024 * mib, 1}});
}

TEST_CASE("a map that is asked for in a wrong way is refused") {
  Pc pc;
  const BiosCall good{
      .eax = 0xe820, .ebx = 0, .ecx = 20, .edx = 0x534d'4150, .edi = 0x20, .es = 0x4000};
  std::vector<BiosCall> bad(5, good);
  bad[0].edx = 0;
  bad[1].ecx = 19;
  bad[2].ebx = 4;
  bad[3].ebx = UINT32_MAX;
  bad[4].edx = 0x534d'4151;
  for (const BiosCall& call : bad) {
    const auto refused = system(pc, call);
    CHECK(has_carry(refused));
    CHECK(refused.ah() == 0x86);
  }
  CHECK_FALSE(has_carry(system(pc, good)));
}

// RBIL, "INT 15/AX=E801h", "INT 15/AH=88h", "INT 12".
TEST_CASE("sizes of memory in the older ways") {
  struct Case {
    uint64_t mib_count;
    uint16_t kib_to_16_mib;
    uint16_t blocks;
    uint16_t kib;
  };
  for (const Case& known :
       {Case{16, 0x3c00, 0, 0x3c00}, Case{64, 0x3c00, 768, 0xfc00}, Case{32, 0x3c00, 256, 0x7c00},
        Case{2048, 0x3c00, 32512, 0xfc00}, Case{4096, 0x3c00, 48896, 0xfc00}}) {
    CAPTURE(known.mib_count);
    Pc pc({4096}, known.mib_count * mib);
    const auto sizes = system(pc, {.eax = 0xe801, .flags = 1});
    CHECK_FALSE(has_carry(sizes));
    CHECK(sizes.ax() == known.kib_to_16_mib);
    CHECK(sizes.cx() == known.kib_to_16_mib);
    CHECK(sizes.bx() == known.blocks);
    CHECK(sizes.dx() == known.blocks);
    const auto extended = system(pc, {.eax = 0x8800, .flags = 1});
    CHECK_FALSE(has_carry(extended));
    CHECK(extended.ax() == known.kib);
    REQUIRE_OK(pc.bios->boot());
    CHECK(pc.call(Service::memory_size, {}).ax() == 639);
  }
}

// RBIL, "INT 15/AH=87h": the table's third descriptor is the source, its fourth the target.
void describe(Pc& pc, uint64_t table, uint32_t from, uint32_t to) {
  const auto put = [&](uint64_t address, uint32_t base) {
    pc.put_value(address, uint16_t{0xffff});
    pc.put_value(address + 2, uint16_t(base));
    pc.put_value(address + 4, uint8_t(base >> 16));
    pc.put_value(address + 5, uint8_t{0x93});
    pc.put_value(address + 6, uint8_t{0});
    pc.put_value(address + 7, uint8_t(base >> 24));
  };
  put(table + 0x10, from);
  put(table + 0x18, to);
}

TEST_CASE("blocks are moved above 1 MiB and back, also over themselves") {
  Pc pc;
  describe(pc, 0x5000, 0x2'0000, 0x212'3456);
  pc.put(0x2'0000, "to be moved");
  const auto moved = system(pc, {.eax = 0x8700, .ecx = 6, .esi = 0x5000});
  CHECK_FALSE(has_carry(moved));
  CHECK(has_zero(moved));
  CHECK(moved.ah() == 0);
  CHECK(pc.text(0x212'3456, 12) == std::string("to be moved\0", 12));
  describe(pc, 0x5000, 0x212'3456, 0x212'3458);
  CHECK_FALSE(has_carry(system(pc, {.eax = 0x8700, .ecx = 4, .esi = 0x5000})));
  CHECK(pc.text(0x212'3456, 10) == "toto be mo");
  CHECK_FALSE(has_carry(system(pc, {.eax = 0x8700, .ecx = 0, .esi = 0x5000})));
}

TEST_CASE("blocks that are not all memory stay where they are") {
  Pc pc;
  pc.put(0x2'0000, "here");
  for (const auto& [from, to, words] : {std::tuple{0x2'0000U, 0x400'0000U, 1U},
                                        {0x2'0000U, 0x3ff'ffffU, 1U},
                                        {0xffff'fff0U, 0x2'0000U, 0x8000U},
                                        {0x3ff'0000U, 0x2'0000U, 0x8001U},
                                        {0x2'0000U, 0x20'0000U, 0xffffU}}) {
    describe(pc, 0x5000, from, to);
    const auto failed = system(pc, {.eax = 0x8700, .ecx = words, .esi = 0x5000});
    CHECK(has_carry(failed));
    CHECK_FALSE(has_zero(failed));
    CHECK(failed.ah() == 0x02);
    CHECK(pc.text(0x2'0000, 4) == "here");
  }
}

}  // namespace
}  // namespace vhdkit::hypervisor
