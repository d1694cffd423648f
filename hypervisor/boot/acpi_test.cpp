#include "hypervisor/boot/acpi.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

namespace vhdkit::hypervisor {
namespace {

constexpr uint64_t address = 0xe0000;

// The tables by their offsets in the specification.
struct Blob {
  explicit Blob(unsigned vp_count) : bytes(acpi_tables(address, vp_count)) {}

  template <class T>
  T get(size_t offset) const {
    T value;
    REQUIRE(offset + sizeof value <= bytes.size());
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }
  std::string text(size_t offset, size_t length) const {
    REQUIRE(offset + length <= bytes.size());
    return {reinterpret_cast<const char*>(bytes.data()) + offset, length};
  }
  uint8_t sum(size_t offset, size_t length) const {
    REQUIRE(offset + length <= bytes.size());
    uint8_t total = 0;
    for (const std::byte byte : std::span(bytes).subspan(offset, length)) total += uint8_t(byte);
    return total;
  }
  // Where the table begins in here.
  size_t table(uint64_t at, const std::string& signature) const {
    REQUIRE(at >= address);
    const size_t offset = at - address;
    CHECK(text(offset, 4) == signature);
    CHECK(sum(offset, get<uint32_t>(offset + 4)) == 0);
    return offset;
  }
  size_t xsdt() const { return table(get<uint64_t>(24), "XSDT"); }
  size_t fadt() const { return table(get<uint64_t>(xsdt() + 36), "FACP"); }
  size_t madt() const { return table(get<uint64_t>(xsdt() + 44), "APIC"); }
  size_t dsdt() const { return table(get<uint64_t>(fadt() + 140), "DSDT"); }

  std::vector<std::byte> bytes;
};

TEST_CASE("the root pointer leads to all tables, and all sums are zero") {
  const Blob blob(1);
  CHECK(blob.text(0, 8) == "RSD PTR ");
  CHECK(blob.sum(0, 20) == 0);
  CHECK(blob.sum(0, 36) == 0);
  CHECK(blob.get<uint8_t>(15) == 2);
  CHECK(blob.get<uint32_t>(20) == 36);
  CHECK(blob.get<uint32_t>(blob.xsdt() + 4) == 36 + 2 * 8);
  blob.madt();
  blob.dsdt();
}

TEST_CASE("the fixed description says hardware-reduced, and how to sleep and to reset") {
  const Blob blob(1);
  const size_t fadt = blob.fadt();
  CHECK(blob.get<uint32_t>(fadt + 4) == 276);
  CHECK(blob.get<uint8_t>(fadt + 8) == 6);
  const auto flags = blob.get<uint32_t>(fadt + 112);
  CHECK((flags & 1U << 20) != 0);  // HW_REDUCED_ACPI
  CHECK((flags & 1U << 10) != 0);  // RESET_REG_SUP
  CHECK(blob.get<uint16_t>(fadt + 109) == 0x24);
  const auto port_at = [&](size_t offset) {
    CHECK(blob.get<uint8_t>(fadt + offset) == 1);  // system I/O
    CHECK(blob.get<uint8_t>(fadt + offset + 1) == 8);
    return blob.get<uint64_t>(fadt + offset + 4);
  };
  CHECK(port_at(116) == 0x604);
  CHECK(blob.get<uint8_t>(fadt + 128) == 6);
  CHECK(port_at(244) == 0x600);
  CHECK(port_at(256) == 0x601);
  // Legacy blocks that are not there are zero.
  CHECK(blob.get<uint32_t>(fadt + 56) == 0);
}

TEST_CASE("every processor has an entry, and there is one I/O APIC") {
  for (const unsigned count : {1U, 2U, 32U}) {
    const Blob blob(count);
    const size_t madt = blob.madt();
    CHECK(blob.get<uint32_t>(madt + 4) == 44 + count * 8 + 12);
    CHECK(blob.get<uint32_t>(madt + 36) == 0xfee00000);
    CHECK(blob.get<uint32_t>(madt + 40) == 0);
    for (unsigned vp = 0; vp < count; ++vp) {
      const size_t entry = madt + 44 + vp * 8;
      CHECK(blob.get<uint16_t>(entry) == 0x0800);
      CHECK(blob.get<uint8_t>(entry + 2) == vp);
      CHECK(blob.get<uint8_t>(entry + 3) == vp);
      CHECK(blob.get<uint32_t>(entry + 4) == 1);
    }
    const size_t io_apic = madt + 44 + count * 8;
    CHECK(blob.get<uint16_t>(io_apic) == 0x0c01);
    CHECK(blob.get<uint32_t>(io_apic + 4) == 0xfec00000);
    CHECK(blob.get<uint32_t>(io_apic + 8) == 0);
  }
}

TEST_CASE("the namespace has VMBus under a module, a serial port and a way off") {
  const Blob blob(1);
  const size_t dsdt = blob.dsdt();
  const std::string aml = blob.text(dsdt, blob.get<uint32_t>(dsdt + 4));
  for (const char* const name : {"VMOD", "VMBS", "COM1", "_S5_", "VMBus", "ACPI0004"}) {
    CAPTURE(name);
    CHECK(aml.find(name) != std::string::npos);
  }
  CHECK(aml.find("VMOD") < aml.find("VMBS"));
  // IO (Decode16, 0x3f8, 0x3f8, 1, 8), then IRQ 4: ACPI 6.5, 6.4.2.5 and 6.4.2.1.
  CHECK(aml.find(std::string("\x47\x01\xf8\x03\xf8\x03\x01\x08\x22\x10\x00", 11)) !=
        std::string::npos);
}

}  // namespace
}  // namespace vhdkit::hypervisor
