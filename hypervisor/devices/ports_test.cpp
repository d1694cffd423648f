#include "hypervisor/devices/ports.h"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

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

TEST_CASE("an access is for the device behind its first port, also where the next one begins") {
  TestDevice first(0x10);
  TestDevice second(0x20);
  Ports ports;
  ports.add(0x102, 2, second);
  ports.add(0x100, 2, first);
  CHECK(ports.read(0x100, 2) == 0x1110);
  CHECK(ports.read(0x101, 4) == 0xffff'ff11);
  CHECK(ports.read(0x0ff, 2) == 0xffff);
  ports.write(0x101, 2, 0xbbaa);
  CHECK(first.written == decltype(first.written){{1, 0xaa}});
  CHECK(second.written.empty());
  CHECK(ports.read(0x102, 1) == 0x20);
}

TEST_CASE("the last ports of all") {
  TestDevice device(0x30);
  Ports ports;
  ports.add(0xfffc, 4, device);
  CHECK(ports.read(0xfffc, 4) == 0x33323130);
  CHECK(ports.read(0xffff, 4) == 0xffff'ff33);
  ports.write(0xffff, 4, 0x44332211);
  CHECK(device.written == decltype(device.written){{3, 0x11}});
  CHECK(ports.read(0, 1) == 0xff);
}

struct WordDevice final : PortDevice {
  uint32_t read(uint16_t, unsigned size) override {
    sizes.push_back(size);
    return 0x8765'4321;
  }
  void write(uint16_t, unsigned, uint32_t value) override { written.push_back(value); }

  std::vector<unsigned> sizes;
  std::vector<uint32_t> written;
};

TEST_CASE("a wide device sees accesses as they are, and only their bits") {
  WordDevice device;
  Ports ports;
  ports.add(0x200, 4, device);
  CHECK(ports.read(0x200, 4) == 0x8765'4321);
  CHECK(ports.read(0x200, 2) == 0x4321);
  CHECK(ports.read(0x200, 1) == 0x21);
  CHECK(device.sizes == std::vector<unsigned>{4, 2, 1});
  ports.write(0x200, 2, 0xdead'beef);
  ports.write(0x200, 1, 0xdead'beef);
  CHECK(device.written == std::vector<uint32_t>{0xbeef, 0xef});
}

}  // namespace
}  // namespace vhdkit::hypervisor
