#include "hypervisor/devices/uart.h"

#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "hypervisor/devices/test_port.h"

namespace vhdkit::hypervisor {
namespace {

using namespace testing;

TEST_CASE("Linux finds a 16550A: autoconfig() of its 8250 driver") {
  TestPort uart;
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
  TestPort uart;
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
  TestPort uart;
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
  TestPort uart;
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
  CHECK(uart.room_count.load() == 1);
  CHECK(uart.in(iir_or_fcr) == 0xc1);
  CHECK(uart.type("def") == 3);
  CHECK(uart.edges() == 1);
  while ((uart.in(lsr) & 0x01) != 0) uart.in(data);
  CHECK(uart.room_count.load() == 1);  // nobody waits
}

TEST_CASE("without FIFOs there is room for one byte") {
  TestPort uart;
  CHECK(uart.type("ab") == 1);
  CHECK(uart.in(data) == 'a');
  CHECK(uart.room_count.load() == 1);
  CHECK(uart.in(data) == 0);
}

TEST_CASE("received data is told before an empty transmitter, and that one is not lost") {
  TestPort uart;
  uart.out(iir_or_fcr, 0x01);
  uart.out(ier, 0x03);
  CHECK(uart.type("a") == 1);
  CHECK(uart.in(iir_or_fcr) == 0xc4);
  CHECK(uart.in(data) == 'a');
  CHECK(uart.in(iir_or_fcr) == 0xc2);
  CHECK(uart.in(iir_or_fcr) == 0xc1);
}

TEST_CASE("clearing the receiver's FIFO forgets what was typed") {
  TestPort uart;
  uart.out(iir_or_fcr, 0x01);
  CHECK(uart.type("abc") == 3);
  uart.out(iir_or_fcr, 0x03);
  CHECK((uart.in(lsr) & 0x01) == 0);
}

TEST_CASE("in loopback bytes come back, and an overrun is told once") {
  TestPort uart;
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
  TestPort uart;
  CHECK(uart.in(msr) == 0xb0);  // DCD, DSR, CTS
  uart.out(ier, 0x08);
  uart.out(mcr, 0x10);
  CHECK(uart.edges() == 1);
  CHECK(uart.in(iir_or_fcr) == 0x00);
  CHECK(uart.in(msr) == 0x0b);  // all gone, and each has changed
  CHECK(uart.in(msr) == 0x00);
  CHECK(uart.in(iir_or_fcr) == 0x01);
}

// Table I "UART Reset Configuration".
TEST_CASE("the registers after a reset") {
  TestPort uart;
  constexpr std::pair<Offset, uint8_t> registers[] = {
      {ier, 0}, {iir_or_fcr, 0x01}, {lcr, 0}, {mcr, 0}, {lsr, 0x60}};
  for (const auto& [offset, value] : registers) CHECK(uart.in(offset) == value);
  CHECK((uart.in(msr) & 0x0f) == 0);
  CHECK(uart.edges() == 0);
}

TEST_CASE("each register has the bits of table II") {
  TestPort uart;
  for (int value = 0; value < 256; ++value) {
    CAPTURE(value);
    uart.out(ier, value);
    CHECK(uart.in(ier) == (value & 0x0f));
    uart.out(mcr, value);
    CHECK(uart.in(mcr) == (value & 0x1f));
    uart.out(scr, value);
    CHECK(uart.in(scr) == value);
    uart.out(lcr, value);
    CHECK(uart.in(lcr) == value);
    uart.out(lcr, 0);  // not the divisor latch
  }
  TestPort other;
  for (const int value : {0x00, 0xff}) {
    other.out(lsr, value);
    other.out(msr, value);
  }
  CHECK(other.in(lsr) == 0x60);
  CHECK(other.in(msr) == 0xb0);
}

TEST_CASE("the divisor in one access of 16 bits") {
  TestPort uart;
  uart.out(lcr, 0x80);
  uart.ports.write(0x3f8, 2, 0x1234);
  CHECK(uart.ports.read(0x3f8, 2) == 0x1234);
  CHECK(uart.in(data) == 0x34);
  CHECK(uart.in(ier) == 0x12);
}

// 8.5, "Bit 0": the others are not programmed without it, and a change of it clears the FIFOs.
TEST_CASE("the FIFO control register") {
  TestPort uart;
  uart.out(iir_or_fcr, 0xce);
  CHECK(uart.in(iir_or_fcr) == 0x01);
  CHECK(uart.type("ab") == 1);
  uart.out(iir_or_fcr, 0x01);
  CHECK(uart.in(lsr) == 0x60);
  CHECK(uart.type("abc") == 3);
  uart.out(iir_or_fcr, 0x05);  // the transmitter's reset is not the receiver's
  CHECK(uart.in(data) == 'a');
  uart.out(iir_or_fcr, 0x03);  // and this clears itself
  CHECK(uart.in(lsr) == 0x60);
  CHECK(uart.type("de") == 2);
  CHECK(uart.in(data) == 'd');
  uart.out(iir_or_fcr, 0x00);
  CHECK(uart.in(lsr) == 0x60);
  CHECK(uart.in(iir_or_fcr) == 0x01);
  CHECK(uart.type("fg") == 1);
}

TEST_CASE("the trigger levels of the receiver's FIFO are 1, 4, 8 and 14 bytes") {
  constexpr std::pair<int, size_t> levels[] = {{0x01, 1}, {0x41, 4}, {0x81, 8}, {0xc1, 14}};
  for (const auto& [control, level] : levels) {
    CAPTURE(level);
    TestPort uart;
    uart.out(iir_or_fcr, control);
    uart.out(ier, 0x01);
    for (size_t count = 1; count <= 16; ++count) {
      CHECK(uart.type("x") == 1);
      CHECK(uart.in(iir_or_fcr) == (count < level ? 0xcc : 0xc4));
    }
    CHECK(uart.type("x") == 0);
    // Down again, and below the level what is left is the time-out's.
    for (size_t count = 15; count >= 1; --count) {
      uart.in(data);
      CHECK(uart.in(iir_or_fcr) == (count < level ? 0xcc : 0xc4));
    }
    uart.in(data);
    CHECK(uart.in(iir_or_fcr) == 0xc1);
    CHECK(uart.edges() == 1);
  }
}

// Table IV: what ends each cause is the access to its own register, and the next one is told then.
TEST_CASE("the four causes of an interrupt, one after the other, on a line that stays high") {
  TestPort uart;
  uart.out(mcr, 0x10);
  uart.out(data, 'a');
  uart.out(data, 'b');
  CHECK(uart.edges() == 0);
  uart.out(ier, 0x0f);
  CHECK(uart.edges() == 1);
  for (int i = 0; i < 2; ++i) CHECK(uart.in(iir_or_fcr) == 0x06);
  CHECK(uart.in(lsr) == 0x63);
  for (int i = 0; i < 2; ++i) CHECK(uart.in(iir_or_fcr) == 0x04);
  CHECK(uart.in(data) == 'b');
  CHECK(uart.in(iir_or_fcr) == 0x02);
  for (int i = 0; i < 2; ++i) CHECK(uart.in(iir_or_fcr) == 0x00);
  CHECK(uart.edges() == 0);
  CHECK(uart.in(msr) == 0x0b);
  CHECK(uart.in(iir_or_fcr) == 0x01);
  uart.out(mcr, 0x12);  // and from low again
  CHECK(uart.edges() == 1);
}

TEST_CASE("a cause that is not enabled waits until it is") {
  constexpr std::pair<int, uint8_t> causes[] = {
      {0x01, 0x04}, {0x02, 0x02}, {0x04, 0x06}, {0x08, 0}};
  for (const auto& [enable, cause] : causes) {
    CAPTURE(enable);
    TestPort uart;
    uart.out(mcr, 0x10);
    uart.out(data, 'a');
    uart.out(data, 'b');
    uart.out(ier, 0);
    CHECK(uart.in(iir_or_fcr) == 0x01);
    CHECK(uart.edges() == 0);
    uart.out(ier, enable);
    CHECK(uart.edges() == 1);
    CHECK(uart.in(iir_or_fcr) == cause);
    uart.out(ier, 0);
    CHECK(uart.in(iir_or_fcr) == 0x01);
  }
}

TEST_CASE("a byte sent while the transmitter's interrupt waits leaves it waiting") {
  TestPort uart;
  uart.out(ier, 0x02);
  CHECK(uart.edges() == 1);
  uart.out(data, 'a');
  uart.out(data, 'b');
  CHECK(uart.edges() == 0);
  CHECK(uart.in(iir_or_fcr) == 0x02);
  CHECK(uart.in(iir_or_fcr) == 0x01);
  uart.out(ier, 0x02);  // enabled as before: nothing new
  CHECK(uart.in(iir_or_fcr) == 0x01);
  CHECK(uart.edges() == 0);
  uart.out(data, 'c');
  CHECK(uart.edges() == 1);
  CHECK(uart.sent == "abc");
}

// 8.4, "Bit 1".
TEST_CASE("a FIFO that is full keeps what it has") {
  TestPort uart;
  uart.out(iir_or_fcr, 0x01);
  uart.out(mcr, 0x10);
  for (int i = 0; i < 16; ++i) uart.out(data, i);
  CHECK(uart.in(lsr) == 0x61);
  uart.out(data, 16);
  CHECK(uart.in(lsr) == 0x63);
  for (int i = 0; i < 16; ++i) CHECK(uart.in(data) == i);
  CHECK(uart.in(lsr) == 0x60);
}

// 8.8, "Bit 4": RTS is CTS then, DTR is DSR, OUT1 the ring indicator, OUT2 DCD. 8.9, "Bit 2": of
// the ring indicator only the end is told.
TEST_CASE("in loopback the modem's outputs are its inputs") {
  TestPort uart;
  uart.out(mcr, 0x10);
  uart.in(msr);
  constexpr std::pair<int, uint8_t> lines[] = {{0x12, 0x11}, {0x11, 0x23}, {0x14, 0x42},
                                               {0x10, 0x04}, {0x18, 0x88}, {0x10, 0x08}};
  for (const auto& [control, status] : lines) {
    CAPTURE(control);
    uart.out(mcr, control);
    CHECK(uart.in(msr) == status);
    CHECK(uart.in(msr) == (status & 0xf0));
  }
  uart.out(mcr, 0x1f);
  uart.out(mcr, 0x10);
  CHECK(uart.in(msr) == 0x0f);
}

TEST_CASE("who was sent away in loopback is called when it ends") {
  TestPort uart;
  uart.out(iir_or_fcr, 0x01);
  uart.out(mcr, 0x10);
  uart.out(data, 'a');
  CHECK(uart.type("typed") == 0);
  uart.in(data);
  CHECK(uart.room_count.load() == 0);
  uart.out(mcr, 0);
  CHECK(uart.room_count.load() == 1);
  CHECK(uart.type("typed") == 5);
}

TEST_CASE("a FIFO that is cleared has room") {
  TestPort uart;
  uart.out(iir_or_fcr, 0x01);
  const std::string text(20, 'x');
  for (const int control : {0x03, 0x00}) {
    CHECK(uart.type(text) == 16);
    uart.out(iir_or_fcr, control);
    CHECK(uart.room_count.exchange(0) == 1);
  }
}

struct SlowHost final : SerialHost, InterruptLine {
  void write(std::span<const std::byte>) override {
    is_writing = true;
    is_writing.notify_one();
    may_go_on.wait(false);
  }
  void has_room() override {}
  void edge() override {}

  std::atomic<bool> is_writing = false;
  std::atomic<bool> may_go_on = false;
};

TEST_CASE("a host that is slow to take a byte holds up nobody else") {
  SlowHost host;
  Uart uart(host, host);
  Ports ports;
  ports.add(0x3f8, 8, uart);
  std::thread processor([&] { ports.write(0x3f8, 1, 'x'); });
  host.is_writing.wait(false);
  const std::byte typed{'a'};
  CHECK(uart.receive({&typed, 1}) == 1);
  CHECK(ports.read(0x3f8, 1) == 'a');
  host.may_go_on = true;
  host.may_go_on.notify_one();
  processor.join();
}

}  // namespace
}  // namespace vhdkit::hypervisor
