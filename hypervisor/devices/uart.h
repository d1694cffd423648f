// A serial port: the 16550A that every guest has a driver for.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "hypervisor/devices/ports.h"
#include "hypervisor/devices/serial_line.h"

namespace vhdkit::hypervisor {

// An edge-triggered interrupt.
class InterruptLine {
 public:
  virtual ~InterruptLine() = default;
  // The line has gone from low to high. Called with the device's lock held: does not wait and does
  // not call back.
  virtual void edge() = 0;
};

// National Semiconductor's PC16550D ("PC16550D Universal Asynchronous Receiver/Transmitter with
// FIFOs", section 8 "Registers"), 8 ports. Thread-safe.
//
// What its line is like: a byte is sent when it is written, so that the transmitter is always
// empty; divisor and word length are kept and do nothing; there are no breaks and no errors but an
// overrun in loopback. The FIFO's time-out, by which less than its trigger level is reported,
// passes at once. CTS, DSR and DCD are always on. OUT2, with which a PC's board holds interrupts
// back, does not do so here: some small guests leave it off.
class Uart final : public ByteDevice, public SerialGuest {
 public:
  static constexpr size_t fifo_bytes = 16;

  // Both outlive it.
  Uart(SerialHost& host, InterruptLine& interrupt) : host_(host), interrupt_(interrupt) {}

  // Whether the guest has sent anything yet. Any thread.
  bool has_sent() const { return has_sent_; }

  // Nothing is taken in loopback: the line is cut off then.
  size_t receive(std::span<const std::byte> bytes) override;

 private:
  struct State {
    uint8_t divisor_low = 1;  // 115200 baud, as firmware leaves it; Linux divides by the divisor
    uint8_t divisor_high = 0;
    uint8_t interrupt_enable = 0;
    uint8_t fifo_control = 0;
    uint8_t line_control = 0;
    uint8_t modem_control = 0;
    uint8_t modem_changes = 0;
    uint8_t scratch = 0;
    bool has_overrun = false;
    bool transmitter_waits = false;  // it is empty, and the guest has not taken notice

    std::array<uint8_t, fifo_bytes> received;
    size_t first_received = 0;
    size_t received_count = 0;

    bool has_fifos() const;
    bool is_in_loopback() const;
    bool has_divisor_latch() const;  // in place of the first two registers
    size_t capacity() const;
    uint8_t line_status() const;
    uint8_t modem_lines() const;
    uint8_t interrupt_cause() const;

    uint8_t take_received();
    void put_received(uint8_t value);
    uint8_t read(uint16_t offset);
    uint8_t identify_interrupt();
    void write(uint16_t offset, uint8_t value);
    void enable_interrupts(uint8_t value);
    void control_fifos(uint8_t value);
    void control_modem(uint8_t value);
  };

  uint8_t read_byte(uint16_t offset) override;
  void write_byte(uint16_t offset, uint8_t value) override;
  void send(uint8_t value);
  void update_interrupt();
  bool take_news_of_room();

  SerialHost& host_;
  InterruptLine& interrupt_;
  std::mutex mutex_;
  State state_;
  bool line_is_high_ = false;
  bool host_waits_ = false;  // a receive() did not take all
  std::atomic<bool> has_sent_ = false;
};

}  // namespace vhdkit::hypervisor
