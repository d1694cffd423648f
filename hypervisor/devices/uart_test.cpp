#include "hypervisor/devices/uart.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>

namespace vhdkit::hypervisor {
namespace {

// PC16550D, table II.
enum Offset : uint16_t { data, ier, iir_or_fcr, lcr, mcr, lsr, msr, scr };

struct Fixture : SerialHost, InterruptLine {
  Fixture() { ports.add(0x3f8, 8, uart); }
  void write(std::span<const std::byte> bytes) override {
    sent.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void has_room() override { ++room_count; }
  void edge() override { ++edge_count; }

  uint8_t in(uint16_t offset) { return uint8_t(ports.read(uint16_t(0x3f8 + offset), 1)); }
  void out(uint16_t offset, int value) {
    ports.write(uint16_t(0x3f8 + offset), 1, uint32_t(value));
  }
  size_t type(std::string_view text) { return uart.receive(std::as_bytes(std::span(text))); }
  int edges() { return std::exchange(edge_count, 0); }

  std::string sent;
  int room_count = 0;
  int edge_count = 0;
  Uart uart{*this, *this};
  Ports ports;
};

TEST_CASE("Linux finds a 16550A: autoconfig() of its 8250 driver") {
  Fixture uart;
  // The interrupt enable register exists, and has four bits.
  uart.out(ier, 0);
  CHECK(uart.in(ier) == 0);
  uart.out(ier, 0xff);
  CHECK((uart.in(ier) & 0x0f) == 0x0f);
  uart.out(ier, 0);
  // Loopback: what goes out by MCR comes back in MSR.
  uart.out(mcr, 0x1a);
  CHECK((uart.in(msr) & 0xf0) == 0x90);
  uart.out(mcr, 0);
  // FIFOs are there once they are switched on: bits 7 and 6.
  uart.out(lcr, 0);
  uart.out(iir_or_fcr, 0x01);
  CHECK((uart.in(iir_or_fcr) & 0xc0) == 0xc0);
  // No extended registers behind the divisor latch of a plain 16550A.
  uart.out(lcr, 0x80);
  uart.out(iir_or_fcr, 0);
  uart.out(lcr, 0);
  CHECK((uart.in(iir_or_fcr) & 0xc0) == 0);
  uart.out(scr, 0x5a);
  CHECK(uart.in(scr) == 0x5a);
}

TEST_CASE("an empty transmitter interrupts whoever asks: serial8250_do_startup()'s test") {
  Fixture uart;
  uart.out(ier, 0);
  CHECK((uart.in(lsr) & 0x60) == 0x60);
  uart.out(ier, 0x02);
  CHECK(uart.edges() == 1);
  CHECK(uart.in(iir_or_fcr) == 0x02);  // and this ends it
  CHECK(uart.in(iir_or_fcr) == 0x01);
  uart.out(ier, 0);
  uart.out(ier, 0x02);
  CHECK(uart.edges() == 1);
  CHECK((uart.in(iir_or_fcr) & 0x01) == 0);
  // A byte that is sent is gone at once: the next interrupt.
  uart.out(data, 'x');
  CHECK(uart.edges() == 1);
  CHECK(uart.sent == "x");
  CHECK(uart.in(iir_or_fcr) == 0x02);
}

TEST_CASE("the divisor latch hides the first two registers, and sends nothing") {
  Fixture uart;
  uart.out(lcr, 0x83);
  uart.out(data, 0x0c);
  uart.out(ier, 0x01);
  CHECK(uart.in(data) == 0x0c);
  CHECK(uart.in(ier) == 0x01);
  uart.out(lcr, 0x03);
  CHECK(uart.in(ier) == 0);
  CHECK(uart.sent.empty());
  CHECK(uart.in(lcr) == 0x03);
}

TEST_CASE("what is typed waits in the FIFO, as much as there is room for") {
  Fixture uart;
  uart.out(iir_or_fcr, 0xc1);  // FIFOs, a trigger level of 14
  uart.out(ier, 0x01);
  CHECK(uart.type("abc") == 3);
  CHECK(uart.edges() == 1);
  CHECK(uart.in(iir_or_fcr) == 0xcc);  // less than the level: the time-out
  CHECK((uart.in(lsr) & 0x01) == 1);
  CHECK(uart.type("0123456789abcdef") == 13);
  CHECK(uart.in(iir_or_fcr) == 0xc4);
  std::string got;
  while ((uart.in(lsr) & 0x01) != 0) got += char(uart.in(data));
  CHECK(got == "abc0123456789abc");
  CHECK(uart.room_count == 1);
  CHECK(uart.in(iir_or_fcr) == 0xc1);
  CHECK(uart.type("def") == 3);
  CHECK(uart.edges() == 1);
  while ((uart.in(lsr) & 0x01) != 0) uart.in(data);
  CHECK(uart.room_count == 1);  // nobody waits
}

TEST_CASE("without FIFOs there is room for one byte") {
  Fixture uart;
  CHECK(uart.type("ab") == 1);
  CHECK(uart.in(data) == 'a');
  CHECK(uart.room_count == 1);
  CHECK(uart.in(data) == 0);
}

TEST_CASE("received data is told before an empty transmitter, and that one is not lost") {
  Fixture uart;
  uart.out(iir_or_fcr, 0x01);
  uart.out(ier, 0x03);
  CHECK(uart.type("a") == 1);
  CHECK(uart.in(iir_or_fcr) == 0xc4);
  CHECK(uart.in(data) == 'a');
  CHECK(uart.in(iir_or_fcr) == 0xc2);
  CHECK(uart.in(iir_or_fcr) == 0xc1);
}

TEST_CASE("clearing the receiver's FIFO forgets what was typed") {
  Fixture uart;
  uart.out(iir_or_fcr, 0x01);
  CHECK(uart.type("abc") == 3);
  uart.out(iir_or_fcr, 0x03);
  CHECK((uart.in(lsr) & 0x01) == 0);
}

TEST_CASE("in loopback bytes come back, and an overrun is told once") {
  Fixture uart;
  uart.out(mcr, 0x10);
  uart.out(ier, 0x05);
  uart.out(data, 'a');
  CHECK(uart.sent.empty());
  CHECK(uart.type("typed") == 0);
  CHECK(uart.in(iir_or_fcr) == 0x04);
  uart.out(data, 'b');  // without FIFOs it takes the first one's place
  CHECK(uart.in(iir_or_fcr) == 0x06);
  CHECK((uart.in(lsr) & 0x03) == 0x03);
  CHECK((uart.in(lsr) & 0x03) == 0x01);
  CHECK(uart.in(data) == 'b');
}

TEST_CASE("the other end is always there, and its lines change in loopback only") {
  Fixture uart;
  CHECK(uart.in(msr) == 0xb0);  // DCD, DSR, CTS
  uart.out(ier, 0x08);
  uart.out(mcr, 0x10);
  CHECK(uart.edges() == 1);
  CHECK(uart.in(iir_or_fcr) == 0x00);
  CHECK(uart.in(msr) == 0x0b);  // all gone, and each has changed
  CHECK(uart.in(msr) == 0x00);
  CHECK(uart.in(iir_or_fcr) == 0x01);
}

}  // namespace
}  // namespace vhdkit::hypervisor
