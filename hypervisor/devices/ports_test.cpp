#include "hypervisor/devices/ports.h"

#include <doctest/doctest.h>

#include <utility>

#include "hypervisor/devices/power.h"

namespace vhdkit::hypervisor {
namespace {

struct TestDevice final : ByteDevice {
  explicit TestDevice(uint8_t first) : first_value(first) {}
  uint8_t read_byte(uint16_t offset) override { return uint8_t(first_value + offset); }
  void write_byte(uint16_t offset, uint8_t value) override { written.push_back({offset, value}); }

  uint8_t first_value;
  std::vector<std::pair<uint16_t, uint8_t>> written;
};

TEST_CASE("each port is answered by the device behind it, the others by nobody") {
  TestDevice low(0x10);
  TestDevice high(0x20);
  Ports ports;
  ports.add(0x3f8, 8, high);
  ports.add(0x70, 2, low);
  CHECK(ports.read(0x70, 1) == 0x10);
  CHECK(ports.read(0x71, 1) == 0x11);
  CHECK(ports.read(0x3ff, 1) == 0x27);
  CHECK(ports.read(0x72, 1) == 0xff);
  CHECK(ports.read(0x6f, 1) == 0xff);
  CHECK(ports.read(0xffff, 4) == 0xffff'ffff);
  CHECK(ports.read(0x400, 2) == 0xffff);
  ports.write(0x72, 1, 5);
  ports.write(0x71, 1, 6);
  CHECK(low.written == decltype(low.written){{1, 6}});
  CHECK(high.written.empty());
}

TEST_CASE("wide accesses are bytes, and stop at the device's end") {
  TestDevice device(0x40);
  Ports ports;
  ports.add(0x100, 4, device);
  CHECK(ports.read(0x100, 4) == 0x43424140);
  CHECK(ports.read(0x101, 2) == 0x4241);
  CHECK(ports.read(0x102, 4) == 0xffff4342);
  ports.write(0x103, 4, 0x11223344);
  CHECK(device.written == decltype(device.written){{3, 0x44}});
}

struct TestPower final : PowerControl {
  void power_off() override { ++off_count; }
  void reset() override { ++reset_count; }
  int off_count = 0;
  int reset_count = 0;
};

TEST_CASE("a guest that sleeps as deep as it can is off") {
  TestPower power;
  PowerPorts devices(power);
  Ports ports;
  devices.add_to(ports);
  ports.write(0x601, 1, 0x80);  // wake status
  ports.write(0x600, 1, 0x14);  // the type without the order
  ports.write(0x600, 1, 0x24);  // another type: S1
  CHECK(power.off_count == 0);
  ports.write(0x600, 1, 0x34);
  CHECK(power.off_count == 1);
  CHECK(ports.read(0x600, 1) == 0);
  CHECK(power.reset_count == 0);
}

TEST_CASE("a guest resets by ACPI's register and by the keyboard controller") {
  TestPower power;
  PowerPorts devices(power);
  Ports ports;
  devices.add_to(ports);
  ports.write(0x604, 1, 0);
  ports.write(0x64, 1, 0xd1);
  CHECK(power.reset_count == 0);
  ports.write(0x604, 1, 6);
  CHECK(power.reset_count == 1);
  ports.write(0x64, 1, 0xfe);
  CHECK(power.reset_count == 2);
  // No key waits, and commands are taken.
  CHECK(ports.read(0x64, 1) == 0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
