#include "hypervisor/boot/acpi.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

#include "hypervisor/boot/platform.h"

namespace vhdkit::hypervisor {
namespace {

// The tables by their offsets in the specification.
struct Blob {
  explicit Blob(unsigned vp_count, uint64_t at = 0xe0000)
      : address(at), bytes(acpi_tables(at, vp_count)) {}

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
    CHECK(get<uint32_t>(offset + 4) >= 36);
    CHECK(sum(offset, get<uint32_t>(offset + 4)) == 0);
    return offset;
  }
  size_t rsdt() const { return table(get<uint32_t>(16), "RSDT"); }
  size_t xsdt() const { return table(get<uint64_t>(24), "XSDT"); }
  size_t fadt() const { return table(get<uint64_t>(xsdt() + 36), "FACP"); }
  size_t madt() const { return table(get<uint64_t>(xsdt() + 44), "APIC"); }
  size_t dsdt() const { return table(get<uint64_t>(fadt() + 140), "DSDT"); }

  uint64_t address;
  std::vector<std::byte> bytes;
};

// What a resource descriptor or AML has of a number, lowest byte first.
std::string number(uint64_t value, size_t byte_count) {
  std::string text;
  for (size_t i = 0; i < byte_count; ++i) text += char(uint8_t(value >> 8 * i));
  return text;
}

// ACPI 6.5, 6.4.3.5.1 "QWord Address Space Descriptor": memory, passed on to devices below, both
// ends fixed, cacheable, read and write; granularity, first and last address, translation, length.
std::string memory_window(uint64_t begin, uint64_t byte_count) {
  return std::string("\x8a\x2b\x00\x00\x0c\x03", 6) + number(0, 8) + number(begin, 8) +
         number(begin + byte_count - 1, 8) + number(0, 8) + number(byte_count, 8);
}

TEST_CASE("the root pointer leads to all tables, and all sums are zero") {
  const Blob blob(1);
  CHECK(blob.text(0, 8) == "RSD PTR ");
  CHECK(blob.sum(0, 20) == 0);
  CHECK(blob.sum(0, 36) == 0);
  CHECK(blob.get<uint8_t>(15) == 2);
  CHECK(blob.get<uint32_t>(20) == 36);
  CHECK(blob.get<uint32_t>(blob.xsdt() + 4) == 36 + 2 * 8);
  CHECK(blob.get<uint32_t>(blob.rsdt() + 4) == 36 + 2 * 4);
  for (size_t i = 0; i < 2; ++i)
    CHECK(blob.get<uint32_t>(blob.rsdt() + 36 + 4 * i) ==
          blob.get<uint64_t>(blob.xsdt() + 36 + 8 * i));
  CHECK(blob.get<uint8_t>(blob.rsdt() + 8) == 1);
  CHECK(blob.get<uint32_t>(blob.fadt() + 40) == blob.get<uint64_t>(blob.fadt() + 140));
  CHECK(blob.get<uint8_t>(blob.xsdt() + 8) == 1);
  CHECK(blob.get<uint8_t>(blob.dsdt() + 8) == 2);
  blob.madt();
  blob.dsdt();
}

TEST_CASE("the tables lie apart from each other, and nothing behind them") {
  for (const uint64_t address : {uint64_t{0xe0000}, uint64_t{0xf'1230}}) {
    const Blob blob(32, address);
    std::vector<size_t> offsets = {blob.rsdt(), blob.xsdt(), blob.fadt(), blob.madt(), blob.dsdt()};
    std::ranges::sort(offsets);
    size_t end = 36;
    for (const size_t offset : offsets) {
      CHECK(offset >= end);
      end = offset + blob.get<uint32_t>(offset + 4);
    }
    CHECK(end == blob.bytes.size());
    CHECK(end < 0x10000);
  }
}

TEST_CASE("the fixed description says hardware-reduced, and how to sleep and to reset") {
  const Blob blob(1);
  const size_t fadt = blob.fadt();
  CHECK(blob.get<uint32_t>(fadt + 4) == 276);
  // The tables are those of ACPI 6.5.
  CHECK(blob.get<uint8_t>(fadt + 8) == 6);
  CHECK(blob.get<uint8_t>(fadt + 131) == 5);
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
    CHECK(blob.get<uint8_t>(madt + 8) == 6);
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
}

TEST_CASE("the namespace's numbers are those that the machine answers at") {
  const Blob blob(1);
  const size_t dsdt = blob.dsdt();
  const std::string aml = blob.text(dsdt, blob.get<uint32_t>(dsdt + 4));
  // ACPI 6.5, 6.4.2.5 "I/O Port Descriptor" (16 bits, from, to, alignment, length) and 6.4.2.1 "IRQ
  // Descriptor" (a mask).
  const std::string serial_port =
      "\x47\x01" + number(platform::com1_port, 2) + number(platform::com1_port, 2) + "\x01" +
      number(platform::com1_port_count, 1) + "\x22" + number(1U << platform::com1_irq, 2);
  CHECK(aml.find(serial_port) != std::string::npos);
  CHECK(aml.find(memory_window(platform::low_mmio_address, platform::low_mmio_bytes)) !=
        std::string::npos);
  CHECK(aml.find(memory_window(platform::high_mmio_address, platform::high_mmio_bytes)) !=
        std::string::npos);
  // 20.2.5.1 "Name Objects Encoding" and 20.2.5.4 "DefPackage": 8 bytes, 4 elements, of which the
  // first two are byte constants and the others ZeroOp.
  const std::string sleep_type = "\x0a" + number(platform::sleep_type_soft_off, 1);
  CHECK(aml.find("_S5_\x12\x08\x04" + sleep_type + sleep_type + number(0, 2)) != std::string::npos);
}

}  // namespace
}  // namespace vhdkit::hypervisor
