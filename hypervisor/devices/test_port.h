// A serial port with a host that keeps what is said, for tests.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "hypervisor/devices/ports.h"
#include "hypervisor/devices/uart.h"

namespace vhdkit::hypervisor::testing {

// PC16550D, table II.
enum Offset : uint16_t { data, ier, iir_or_fcr, lcr, mcr, lsr, msr, scr };

struct TestPort : SerialHost, InterruptLine {
  TestPort() { ports.add(0x3f8, 8, uart); }
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
  int edges() { return edge_count.exchange(0); }

  std::string sent;
  std::atomic<int> room_count = 0;
  std::atomic<int> edge_count = 0;
  Uart uart{*this, *this};
  Ports ports;
};

}  // namespace vhdkit::hypervisor::testing
