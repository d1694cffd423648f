// The UART as the 8250 driver of Linux 6.1 uses it (drivers/tty/serial/8250/8250_port.c): the order
// of accesses is the driver's, and what is checked is what it decides by.
#include <doctest/doctest.h>

#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "hypervisor/devices/test_port.h"

namespace vhdkit::hypervisor {
namespace {

using namespace testing;

// size_fifo()
int fifo_size(TestPort& port) {
  const uint8_t old_lcr = port.in(lcr);
  port.out(lcr, 0);
  const uint8_t old_fcr = port.in(iir_or_fcr);
  const uint8_t old_mcr = port.in(mcr);
  port.out(iir_or_fcr, 0x07);
  port.out(mcr, 0x10);
  port.out(lcr, 0x80);
  const uint8_t divisor_low = port.in(data);
  const uint8_t divisor_high = port.in(ier);
  port.out(data, 1);
  port.out(ier, 0);
  port.out(lcr, 0x03);
  for (int i = 0; i < 256; ++i) port.out(data, i);
  int count = 0;
  for (; (port.in(lsr) & 0x01) != 0 && count < 256; ++count) CHECK(port.in(data) == count);
  port.out(iir_or_fcr, old_fcr);
  port.out(mcr, old_mcr);
  port.out(lcr, 0x80);
  port.out(data, divisor_low);
  port.out(ier, divisor_high);
  port.out(lcr, old_lcr);
  return count;
}

// autoconfig_16550a(), as of kernels with CONFIG_SERIAL_8250_16550A_VARIANTS: each check excludes a
// chip that can more.
void exclude_variants(TestPort& port) {
  port.out(lcr, 0x80);
  CHECK(port.in(iir_or_fcr) != 0);  // an ST16C650V1's EFR
  port.out(lcr, 0xbf);
  CHECK(port.in(iir_or_fcr) != 0);  // the EFR of others
  port.out(lcr, 0);
  const uint8_t modem = port.in(mcr);
  port.out(lcr, 0xe0);
  CHECK(((port.in(iir_or_fcr) ^ modem) & 0x10) == 0);
  port.out(lcr, 0);
  port.out(mcr, modem ^ 0x10);
  port.out(lcr, 0xe0);
  CHECK(((port.in(iir_or_fcr) ^ modem) & 0x10) == 0);  // NatSemi's EXCR1 would have it
  port.out(lcr, 0);
  port.out(mcr, modem);
  port.out(iir_or_fcr, 0x21);
  const int without_latch = port.in(iir_or_fcr) >> 5;
  port.out(iir_or_fcr, 0x01);
  port.out(lcr, 0x80);
  port.out(iir_or_fcr, 0x21);
  const int with_latch = port.in(iir_or_fcr) >> 5;
  port.out(iir_or_fcr, 0x01);
  port.out(lcr, 0);
  CHECK(std::pair(without_latch, with_latch) == std::pair(6, 6));  // a TI16750: 6 and 7
  const uint8_t saved = port.in(ier);
  port.out(ier, saved & ~0x40);
  CHECK((port.in(ier) & 0x40) == 0);
  port.out(ier, saved | 0x40);
  CHECK((port.in(ier) & 0x40) == 0);  // an XScale's
  port.out(ier, saved);
  CHECK(fifo_size(port) == 16);  // a U6 16550A's: 64
}

// autoconfig()
void detect(TestPort& port, bool excludes_variants) {
  const uint8_t saved_ier = port.in(ier);
  port.out(ier, 0);
  CHECK((port.in(ier) & 0x0f) == 0);
  port.out(ier, 0x0f);
  CHECK((port.in(ier) & 0x0f) == 0x0f);
  port.out(ier, saved_ier);
  const uint8_t saved_mcr = port.in(mcr);
  const uint8_t saved_lcr = port.in(lcr);
  port.out(mcr, 0x1a);
  CHECK((port.in(msr) & 0xf0) == 0x90);
  port.out(mcr, saved_mcr);
  port.out(lcr, 0xbf);
  port.out(iir_or_fcr, 0);
  port.out(lcr, 0);
  port.out(iir_or_fcr, 0x01);
  CHECK((port.in(iir_or_fcr) & 0xc0) == 0xc0);
  if (excludes_variants) exclude_variants(port);
  port.out(lcr, saved_lcr);
  port.out(mcr, saved_mcr);
  for (const int value : {0x01, 0x07, 0x00}) port.out(iir_or_fcr, value);
  port.in(data);
  port.out(ier, 0);
}

// serial8250_do_startup() and serial8250_do_set_termios() for 115200n8.
void start(TestPort& port) {
  for (const int value : {0x01, 0x07, 0x00}) port.out(iir_or_fcr, value);
  for (const Offset one : {lsr, data, iir_or_fcr, msr}) port.in(one);
  CHECK(port.in(lsr) != 0xff);
  CHECK((port.in(lsr) & 0x20) != 0);
  port.out(ier, 0x02);
  CHECK((port.in(iir_or_fcr) & 0x01) == 0);
  port.out(ier, 0);
  port.out(ier, 0x02);
  CHECK((port.in(iir_or_fcr) & 0x01) == 0);  // else UART_BUG_THRE: a timer instead of interrupts
  port.out(ier, 0);
  port.out(lcr, 0x03);
  port.out(mcr, 0x08);
  port.out(ier, 0x02);
  CHECK((port.in(lsr) & 0x40) != 0);
  CHECK((port.in(iir_or_fcr) & 0x01) == 0);  // else UART_BUG_TXEN
  port.out(ier, 0);
  for (const Offset one : {lsr, data, iir_or_fcr, msr}) port.in(one);
  port.out(ier, 0x05);
  port.out(lcr, 0x93);
  port.out(data, 1);
  port.out(ier, 0);
  port.out(lcr, 0x13);
  port.out(iir_or_fcr, 0x01);
  port.out(iir_or_fcr, 0x87);
  port.out(mcr, 0x0b);
}

// serial8250_interrupt() with serial8250_handle_irq(): goes on until IIR says that nothing is left.
struct Driver {
  void handle_interrupt() {
    while ((port.in(iir_or_fcr) & 0x01) == 0) {
      uint8_t status = port.in(lsr);
      while ((status & 0x01) != 0) {
        got += char(port.in(data));
        status = port.in(lsr);
      }
      port.in(msr);
      if ((status & 0x20) != 0 && (enabled & 0x02) != 0) fill_transmitter();
    }
  }
  void fill_transmitter() {
    for (int i = 0; i < 16 && !to_send.empty(); ++i) {
      port.out(data, to_send.front());
      to_send.erase(0, 1);
    }
    if (to_send.empty()) enable(0x05);
  }
  void enable(uint8_t interrupts) {
    enabled = interrupts;
    port.out(ier, enabled);
  }

  TestPort& port;
  uint8_t enabled = 0x05;
  std::string to_send;
  std::string got;
};

TEST_CASE("Linux finds a 16550A, whether it looks for other chips or not") {
  for (const bool excludes_variants : {false, true}) {
    CAPTURE(excludes_variants);
    TestPort port;
    detect(port, excludes_variants);
    CHECK(port.sent.empty());
    start(port);
    CHECK(port.in(iir_or_fcr) == 0xc1);
    CHECK(port.sent.empty());
  }
}

TEST_CASE("probe_baud() divides by the divisor that firmware left") {
  TestPort port;
  port.out(lcr, port.in(lcr) | 0x80);
  const int divisor = port.in(ier) << 8 | port.in(data);
  CHECK(divisor == 1);
}

TEST_CASE("an interrupt for each time that there is something to do, and output by interrupts") {
  TestPort port;
  detect(port, false);
  start(port);
  port.edge_count = 0;
  Driver driver{.port = port};
  driver.to_send = std::string(100, 'x');
  driver.enable(0x07);  // start_tx
  CHECK(port.edge_count == 1);
  driver.handle_interrupt();
  CHECK(port.sent == std::string(100, 'x'));
  CHECK(driver.enabled == 0x05);
  port.edge_count = 0;
  driver.to_send = "y";
  driver.enable(0x07);
  CHECK(port.edge_count == 1);
  driver.handle_interrupt();
  CHECK(port.sent.back() == 'y');
}

TEST_CASE("printk holds interrupts back, and none is lost by it") {
  TestPort port;
  detect(port, false);
  start(port);
  Driver driver{.port = port};
  driver.to_send = "tty";
  driver.enable(0x07);
  // serial8250_console_write()
  const uint8_t saved = port.in(ier);
  port.out(ier, 0);
  CHECK(port.type("typed") == 5);
  for (const char letter : std::string("kernel")) {
    CHECK((port.in(lsr) & 0x20) != 0);
    port.out(data, letter);
  }
  CHECK((port.in(lsr) & 0x60) == 0x60);
  port.edge_count = 0;
  port.out(ier, saved);
  CHECK(port.edge_count == 1);
  driver.handle_interrupt();
  CHECK(driver.got == "typed");
  CHECK(port.sent == "kerneltty");
}

TEST_CASE("a driver that runs on edges alone gets everything that is typed, in order") {
  TestPort port;
  detect(port, false);
  start(port);
  port.edge_count = 0;
  Driver driver{.port = port};
  std::string text;
  while (text.size() < 20'000) text += std::to_string(text.size()) + ' ';
  std::thread host([&] {
    for (std::string_view rest = text; !rest.empty();) {
      const int before = port.room_count;
      rest.remove_prefix(port.type(rest));
      while (!rest.empty() && port.room_count == before) std::this_thread::yield();
    }
  });
  // A test that hangs, since an edge or news of room got lost, is ended from outside.
  for (int seen = 0; driver.got.size() < text.size();) {
    if (port.edge_count == seen) {
      std::this_thread::yield();
      continue;
    }
    seen = port.edge_count;
    driver.handle_interrupt();
  }
  host.join();
  CHECK(driver.got == text);
}

}  // namespace
}  // namespace vhdkit::hypervisor
