#include "hypervisor/devices/power.h"

#include <doctest/doctest.h>

#include <initializer_list>

namespace vhdkit::hypervisor {
namespace {

struct Fixture : PowerControl {
  Fixture() { devices.add_to(ports); }
  void power_off() override { ++off_count; }
  void reset() override { ++reset_count; }

  int off_count = 0;
  int reset_count = 0;
  PowerPorts devices{*this};
  Ports ports;
};

// ACPI 6.5, 4.8.3.7: SLP_TYP is bits 2 to 4, SLP_EN bit 5; the DSDT's \_S5 says 5.
TEST_CASE("a guest that sleeps as deep as it can is off") {
  for (unsigned value = 0; value < 256; ++value) {
    CAPTURE(value);
    Fixture machine;
    machine.ports.write(0x600, 1, value);
    CHECK(machine.off_count == ((value & 0x3c) == 0x34 ? 1 : 0));
    CHECK(machine.reset_count == 0);
  }
}

TEST_CASE("the sleep status is for reading, and for clearing what is not set") {
  Fixture machine;
  for (unsigned value = 0; value < 256; ++value) machine.ports.write(0x601, 1, value);
  CHECK(machine.off_count == 0);
  CHECK(machine.ports.read(0x600, 2) == 0);
  machine.ports.write(0x600, 2, 0x8034);
  CHECK(machine.off_count == 1);
  CHECK(machine.ports.read(0x600, 2) == 0);
}

TEST_CASE("ACPI's reset register resets by its value alone") {
  Fixture machine;
  for (unsigned value = 0; value < 256; ++value) {
    CAPTURE(value);
    machine.ports.write(0x604, 1, value);
    CHECK(machine.reset_count == (value < 6 ? 0 : 1));
  }
  CHECK(machine.off_count == 0);
}

TEST_CASE("the keyboard controller resets by the pulse, and takes every other command in silence") {
  Fixture machine;
  for (unsigned value = 0; value < 256; ++value) {
    CAPTURE(value);
    // No key waits, and a command may be written: Linux asks before each (kb_wait).
    CHECK(machine.ports.read(0x64, 1) == 0);
    machine.ports.write(0x64, 1, value);
    CHECK(machine.reset_count == (value < 0xfe ? 0 : 1));
  }
  CHECK(machine.off_count == 0);
}

// IBM PS/2 Hardware Interface Technical Reference, "System Control Port A (Hex 0092)".
TEST_CASE("system control port A says that A20 is open, and resets by its lowest bit") {
  for (unsigned value = 0; value < 256; ++value) {
    CAPTURE(value);
    Fixture machine;
    machine.ports.write(0x92, 1, value);
    CHECK(machine.reset_count == int(value % 2));
    CHECK(machine.off_count == 0);
    CHECK(machine.ports.read(0x92, 1) == 0x02);
  }
}

TEST_CASE("the ports beside the switches are nobody's") {
  Fixture machine;
  for (const uint16_t port :
       std::initializer_list<uint16_t>{0x5ff, 0x602, 0x603, 0x605, 0x60, 0x63, 0x65, 0x91, 0x93}) {
    CAPTURE(port);
    CHECK(machine.ports.read(port, 1) == 0xff);
    for (const unsigned value : {0x06, 0x34, 0xfe}) machine.ports.write(port, 1, value);
  }
  CHECK(machine.off_count + machine.reset_count == 0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
