#include "hypervisor/bios/low_memory.h"

#include <set>

#include "hypervisor/bios/call.h"
#include "hypervisor/bios/test_pc.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::make_ram;
using tests::text_at;
using tests::value_at;

struct Written {
  Written() : ram(make_ram()) {
    auto offset = write_low_memory(*ram, 3, 0x12345);
    REQUIRE_OK(offset);
    first_instruction = *offset;
  }
  uint64_t vector(unsigned number) {
    return value_at<uint16_t>(*ram, number * 4 + 2) * uint64_t{16} +
           value_at<uint16_t>(*ram, number * 4);
  }

  std::unique_ptr<GuestRam> ram;
  uint16_t first_instruction = 0;
};

TEST_CASE("every vector leads into the BIOS") {
  Written low;
  for (unsigned number = 0; number < 256; ++number) {
    CAPTURE(number);
    CHECK(value_at<uint16_t>(*low.ram, number * 4 + 2) == 0xf000);
    CHECK(low.vector(number) >= 0xf'e000);
    CHECK(low.vector(number) < 0xf'f000);
  }
}

// Intel SDM 2: 6A ib pushes a byte, EB cb jumps, E6 ib writes to a port, CF returns.
TEST_CASE("services push their vector, and all ask at one place") {
  Written low;
  std::set<uint64_t> places;
  for (unsigned number = 0x10; number <= 0x1a; ++number) {
    CAPTURE(number);
    const uint64_t entry = low.vector(number);
    CHECK(value_at<uint8_t>(*low.ram, entry) == 0x6a);
    CHECK(value_at<uint8_t>(*low.ram, entry + 1) == number);
    CHECK(value_at<uint8_t>(*low.ram, entry + 2) == 0xeb);
    places.insert(entry + 4 + value_at<uint8_t>(*low.ram, entry + 3));
  }
  REQUIRE(places.size() == 1);
  CHECK(text_at(*low.ram, *places.begin(), 2) == "\xe6\xea");
}

TEST_CASE("what nobody serves returns, and interrupt lines are their controllers'") {
  Written low;
  for (const unsigned number : {0x00, 0x01, 0x05, 0x06, 0x1b, 0x1c, 0x1e, 0x41, 0x4a, 0x60, 0xff})
    CHECK(text_at(*low.ram, low.vector(number), 1) == "\xcf");
  std::set<uint64_t> lines;
  for (unsigned number = 0x08; number <= 0x0f; ++number) lines.insert(low.vector(number));
  CHECK(lines.size() == 2);  // the timer, and the others
  for (unsigned number = 0x70; number <= 0x77; ++number) lines.insert(low.vector(number));
  CHECK(lines.size() == 3);
}

// RBIL, MEMORY.LST.
TEST_CASE("variables are where programs look for them") {
  Written low;
  GuestRam& ram = *low.ram;
  CHECK(value_at<uint16_t>(ram, 0x400) == 0x3f8);
  CHECK(value_at<uint16_t>(ram, 0x402) == 0);
  CHECK(value_at<uint16_t>(ram, 0x40e) == 0x9fc0);
  CHECK(value_at<uint16_t>(ram, 0x410) == 0x0222);
  CHECK(value_at<uint16_t>(ram, 0x413) == 639);
  CHECK(value_at<uint16_t>(ram, 0x41a) == value_at<uint16_t>(ram, 0x41c));
  CHECK(value_at<uint16_t>(ram, 0x480) == 0x1e);
  CHECK(value_at<uint16_t>(ram, 0x482) == 0x3e);
  CHECK(value_at<uint32_t>(ram, 0x46c) == 0x12345);
  CHECK(value_at<uint8_t>(ram, 0x475) == 3);
}

TEST_CASE("the reset vector jumps into the BIOS, and a PC-AT is said behind it") {
  Written low;
  CHECK(value_at<uint8_t>(*low.ram, 0xf'fff0) == 0xea);
  CHECK(value_at<uint16_t>(*low.ram, 0xf'fff3) == 0xf000);
  const uint64_t code = 0xf'0000 + value_at<uint16_t>(*low.ram, 0xf'fff1);
  // mov al, fe; out 64, al: the keyboard controller's pulse
  CHECK(text_at(*low.ram, code, 4) == "\xb0\xfe\xe6\x64");
  CHECK(text_at(*low.ram, 0xf'fff7, 1) == "/");
  CHECK(value_at<uint8_t>(*low.ram, 0xf'fffe) == 0xfc);
}

TEST_CASE("the first instruction is in the BIOS, and forbids interrupts") {
  Written low;
  CHECK(low.first_instruction >= 0xe000);
  CHECK(text_at(*low.ram, 0xf'0000 + low.first_instruction, 1) == "\xfa");
}

}  // namespace
}  // namespace vhdkit::hypervisor
