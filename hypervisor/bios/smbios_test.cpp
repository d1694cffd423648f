#include "hypervisor/bios/smbios.h"

#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <span>
#include <string>

namespace vhdkit::hypervisor {
namespace {

using Bytes = std::span<const std::byte>;

unsigned sum(Bytes bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0U,
                         [](unsigned so_far, std::byte byte) {
                           return so_far + std::to_integer<unsigned>(byte);
                         }) &
         0xff;
}

template <class T>
T value(Bytes bytes, size_t offset) {
  T result;
  REQUIRE(offset + sizeof result <= bytes.size());
  std::memcpy(&result, bytes.data() + offset, sizeof result);
  return result;
}

std::string text(Bytes bytes, size_t offset, size_t length) {
  REQUIRE(offset + length <= bytes.size());
  return {reinterpret_cast<const char*>(bytes.data()) + offset, length};
}

// DSP0134 2.8, 6.1.
struct Structure {
  uint8_t type;
  uint16_t handle;
  Bytes formatted;
  std::vector<std::string> strings;

  std::string string(size_t offset) const {
    const auto number = value<uint8_t>(formatted, offset);
    return number == 0 ? "" : strings.at(number - 1U);
  }
};

std::vector<Structure> structures_of(Bytes table) {
  std::vector<Structure> found;
  while (!table.empty()) {
    Structure one{.type = value<uint8_t>(table, 0),
                  .handle = value<uint16_t>(table, 2),
                  .formatted = table.first(value<uint8_t>(table, 1)),
                  .strings = {}};
    table = table.subspan(one.formatted.size());
    if (table[0] == std::byte{0}) table = table.subspan(1);
    while (table[0] != std::byte{0}) {
      one.strings.emplace_back(reinterpret_cast<const char*>(table.data()));
      table = table.subspan(one.strings.back().size() + 1);
    }
    table = table.subspan(1);
    found.push_back(one);
  }
  return found;
}

// DSP0134 2.8, 5.2.1.
TEST_CASE("the entry point leads to the table, and its sums are right") {
  const auto bytes = smbios_tables(0xf'0000);
  const Bytes entry = Bytes(bytes).first(0x1f);
  CHECK(text(entry, 0, 4) == "_SM_");
  CHECK(sum(entry) == 0);
  CHECK(value<uint8_t>(entry, 5) == 0x1f);
  CHECK(value<uint8_t>(entry, 6) == 2);
  CHECK(value<uint8_t>(entry, 7) == 8);
  CHECK(text(entry, 0x10, 5) == "_DMI_");
  CHECK(sum(entry.subspan(0x10)) == 0);
  CHECK(value<uint8_t>(entry, 0x1e) == 0x28);
  const auto offset = value<uint32_t>(entry, 0x18) - 0xf'0000;
  CHECK(offset >= 0x1f);
  CHECK(offset + value<uint16_t>(entry, 0x16) == bytes.size());
  const auto structures = structures_of(Bytes(bytes).subspan(offset));
  CHECK(structures.size() == value<uint16_t>(entry, 0x1c));
  CHECK(value<uint16_t>(entry, 8) < 0x80);
}

TEST_CASE("the table says that this is a virtual machine of Hyper-V's kind") {
  const auto bytes = smbios_tables(0xf'0000);
  const auto structures = structures_of(Bytes(bytes).subspan(0x20));
  REQUIRE(structures.size() == 5);
  for (size_t i = 0; i < structures.size(); ++i) CHECK(structures[i].handle == i);
  const Structure& bios = structures[0];
  CHECK(bios.type == 0);
  CHECK(bios.formatted.size() == 0x18);
  CHECK(bios.string(4) == "vhdkit");
  CHECK(value<uint16_t>(bios.formatted, 6) == 0xf000);
  CHECK(value<uint64_t>(bios.formatted, 0x0a) == 1U << 19);  // EDD
  CHECK(value<uint8_t>(bios.formatted, 0x12) == 0x01);       // ACPI
  CHECK(value<uint8_t>(bios.formatted, 0x13) == 0x10);       // a virtual machine
  const Structure& system = structures[1];
  CHECK(system.type == 1);
  CHECK(system.formatted.size() == 0x1b);
  CHECK(system.string(4) == "Microsoft Corporation");
  CHECK(system.string(5) == "Virtual Machine");
  CHECK(value<uint8_t>(system.formatted, 0x18) == 6);
  const Structure& enclosure = structures[2];
  CHECK(enclosure.type == 3);
  CHECK(enclosure.string(4) == "Microsoft Corporation");
  CHECK(value<uint8_t>(enclosure.formatted, 5) == 3);
  CHECK(structures[3].type == 32);
  CHECK(value<uint8_t>(structures[3].formatted, 0x0a) == 0);
  CHECK(structures[4].type == 127);
  CHECK(structures[4].formatted.size() == 4);
}

}  // namespace
}  // namespace vhdkit::hypervisor
