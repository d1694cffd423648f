#include "hypervisor/devices/uart.h"

#include <algorithm>

namespace vhdkit::hypervisor {
namespace {

// PC16550D, table II "Summary of Registers".
enum Register : uint16_t {
  data = 0,              // the low divisor latch where LCR bit 7 is set
  interrupt_enable = 1,  // likewise the high one
  interrupt_identification = 2,
  fifo_control = 2,  // written
  line_control = 3,
  modem_control = 4,
  line_status = 5,
  modem_status = 6,
  scratch = 7,
};

// Interrupt enable, 8.7. The upper four bits do not exist.
constexpr uint8_t enable_received = 0x01;
constexpr uint8_t enable_transmitter_empty = 0x02;
constexpr uint8_t enable_line_status = 0x04;
constexpr uint8_t enable_modem_status = 0x08;
constexpr uint8_t enable_all = 0x0f;

// Interrupt identification, 8.6 and table IV; the highest priority first.
constexpr uint8_t cause_line_status = 0x06;
constexpr uint8_t cause_received = 0x04;
constexpr uint8_t cause_time_out = 0x0c;
constexpr uint8_t cause_transmitter_empty = 0x02;
constexpr uint8_t cause_modem_status = 0x00;
constexpr uint8_t cause_none = 0x01;
constexpr uint8_t fifos_are_enabled = 0xc0;

// FIFO control, 8.5.
constexpr uint8_t fifo_enable = 0x01;
constexpr uint8_t fifo_reset_receiver = 0x02;
constexpr uint8_t fifo_kept = 0xc9;  // the resets clear themselves; two bits are reserved
constexpr unsigned fifo_trigger_shift = 6;
constexpr std::array<size_t, 4> fifo_trigger_bytes = {1, 4, 8, 14};

constexpr uint8_t line_divisor_latch = 0x80;  // line control, 8.1

// Line status, 8.4.
constexpr uint8_t status_data_ready = 0x01;
constexpr uint8_t status_overrun = 0x02;
constexpr uint8_t status_transmitter_empty = 0x60;  // holding and shift register

// Modem control, 8.8, and status, 8.9.
constexpr uint8_t control_dtr = 0x01;
constexpr uint8_t control_rts = 0x02;
constexpr uint8_t control_out1 = 0x04;
constexpr uint8_t control_out2 = 0x08;
constexpr uint8_t control_loopback = 0x10;
constexpr uint8_t control_all = 0x1f;
constexpr uint8_t modem_cts = 0x10;
constexpr uint8_t modem_dsr = 0x20;
constexpr uint8_t modem_ring = 0x40;
constexpr uint8_t modem_dcd = 0x80;
constexpr unsigned modem_change_shift = 4;  // from a line to its "has changed"

}  // namespace

// --- what the registers say ---

bool Uart::State::has_fifos() const { return (fifo_control & fifo_enable) != 0; }
bool Uart::State::is_in_loopback() const { return (modem_control & control_loopback) != 0; }
bool Uart::State::has_divisor_latch() const { return (line_control & line_divisor_latch) != 0; }
size_t Uart::State::capacity() const { return has_fifos() ? fifo_bytes : 1; }

uint8_t Uart::State::line_status() const {
  return uint8_t(status_transmitter_empty | (received_count > 0 ? status_data_ready : 0) |
                 (has_overrun ? status_overrun : 0));
}

uint8_t Uart::State::modem_lines() const {
  if (!is_in_loopback()) return modem_cts | modem_dsr | modem_dcd;
  const auto line = [&](uint8_t output, uint8_t input) {
    return (modem_control & output) != 0 ? input : 0;
  };
  return uint8_t(line(control_rts, modem_cts) | line(control_dtr, modem_dsr) |
                 line(control_out1, modem_ring) | line(control_out2, modem_dcd));
}

uint8_t Uart::State::interrupt_cause() const {
  const auto is_enabled = [&](uint8_t which) { return (interrupt_enable & which) != 0; };
  if (is_enabled(enable_line_status) && has_overrun) return cause_line_status;
  if (is_enabled(enable_received) && received_count > 0) {
    const bool is_triggered =
        !has_fifos() || received_count >= fifo_trigger_bytes[fifo_control >> fifo_trigger_shift];
    return is_triggered ? cause_received : cause_time_out;
  }
  if (is_enabled(enable_transmitter_empty) && transmitter_waits) return cause_transmitter_empty;
  if (is_enabled(enable_modem_status) && modem_changes != 0) return cause_modem_status;
  return cause_none;
}

// --- what the guest does ---

uint8_t Uart::State::take_received() {
  if (received_count == 0) return 0;
  const uint8_t value = received[first_received];
  first_received = (first_received + 1) % fifo_bytes;
  --received_count;
  return value;
}

void Uart::State::put_received(uint8_t value) {
  if (received_count < capacity()) {
    received[(first_received + received_count) % fifo_bytes] = value;
    ++received_count;
    return;
  }
  has_overrun = true;
  // 8.4, "Bit 1": a full FIFO keeps what it has; without one, the new byte takes the old one's
  // place.
  if (!has_fifos()) received[first_received] = value;
}

uint8_t Uart::State::read(uint16_t offset) {
  switch (offset) {
    case Register::data:
      return has_divisor_latch() ? divisor_low : take_received();
    case Register::interrupt_enable:
      return has_divisor_latch() ? divisor_high : interrupt_enable;
    case Register::interrupt_identification:
      return identify_interrupt();
    case Register::line_control:
      return line_control;
    case Register::modem_control:
      return modem_control;
    case Register::line_status: {
      const uint8_t value = line_status();
      has_overrun = false;
      return value;
    }
    case Register::modem_status: {
      const auto value = uint8_t(modem_lines() | modem_changes);
      modem_changes = 0;
      return value;
    }
    case Register::scratch:
      return scratch;
    default:
      return UINT8_MAX;
  }
}

// Table IV, "Interrupt Reset Control": to be told that the transmitter is empty ends that cause,
// and no other one.
uint8_t Uart::State::identify_interrupt() {
  const uint8_t cause = interrupt_cause();
  if (cause == cause_transmitter_empty) transmitter_waits = false;
  return uint8_t(cause | (has_fifos() ? fifos_are_enabled : 0));
}

void Uart::State::write(uint16_t offset, uint8_t value) {
  switch (offset) {
    case Register::data:  // in loopback
      if (has_divisor_latch()) {
        divisor_low = value;
      } else {
        put_received(value);
        transmitter_waits = true;
      }
      break;
    case Register::interrupt_enable:
      if (has_divisor_latch())
        divisor_high = value;
      else
        enable_interrupts(value);
      break;
    case Register::fifo_control:
      control_fifos(value);
      break;
    case Register::line_control:
      line_control = value;
      break;
    case Register::modem_control:
      control_modem(value);
      break;
    case Register::scratch:
      scratch = value;
      break;
    default:  // the status registers: 8.4 and 8.9 are for reading
      break;
  }
}

// Whoever enables the transmitter's interrupt while it is empty gets one: Linux tells by this
// whether the chip works (serial8250_do_startup), and every driver begins to send by it.
void Uart::State::enable_interrupts(uint8_t value) {
  const auto changed = uint8_t(interrupt_enable ^ value);
  interrupt_enable = value & enable_all;
  if ((changed & enable_transmitter_empty) != 0)
    transmitter_waits = (value & enable_transmitter_empty) != 0;
}

void Uart::State::control_fifos(uint8_t value) {
  const bool enables = (value & fifo_enable) != 0;
  if (enables != has_fifos() || (enables && (value & fifo_reset_receiver) != 0)) received_count = 0;
  // 8.5, "Bit 0": without it the others are not programmed.
  fifo_control = enables ? value & fifo_kept : 0;
}

void Uart::State::control_modem(uint8_t value) {
  const uint8_t before = modem_lines();
  modem_control = value & control_all;
  const uint8_t after = modem_lines();
  // Of the ring indicator only its end is reported: 8.9, "Bit 2".
  const auto changed = uint8_t(((before ^ after) & ~modem_ring) | (before & ~after & modem_ring));
  modem_changes |= changed >> modem_change_shift;
}

// --- the device ---

uint8_t Uart::read_byte(uint16_t offset) {
  std::unique_lock lock(mutex_);
  const uint8_t value = state_.read(offset);
  update_interrupt();
  const bool has_news = take_news_of_room();
  lock.unlock();
  if (has_news) host_.has_room();
  return value;
}

void Uart::write_byte(uint16_t offset, uint8_t value) {
  std::unique_lock lock(mutex_);
  if (offset == Register::data && !state_.has_divisor_latch() && !state_.is_in_loopback()) {
    lock.unlock();
    return send(value);
  }
  state_.write(offset, value);
  update_interrupt();
  const bool has_news = take_news_of_room();
  lock.unlock();
  if (has_news) host_.has_room();
}

// Without the lock: the host may take its time, and what is typed goes on meanwhile. The write ends
// the transmitter's interrupt and its emptiness raises it anew, so that a line that is high stays
// so.
void Uart::send(uint8_t value) {
  const std::byte byte{value};
  has_sent_ = true;
  host_.write({&byte, 1});
  const std::lock_guard lock(mutex_);
  state_.transmitter_waits = true;
  update_interrupt();
}

size_t Uart::receive(std::span<const std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  const size_t room = state_.is_in_loopback() ? 0 : state_.capacity() - state_.received_count;
  const size_t count = std::min(bytes.size(), room);
  for (const std::byte byte : bytes.first(count)) state_.put_received(uint8_t(byte));
  host_waits_ = count < bytes.size();
  update_interrupt();
  return count;
}

void Uart::update_interrupt() {
  const bool is_high = state_.interrupt_cause() != cause_none;
  if (is_high && !line_is_high_) interrupt_.edge();
  line_is_high_ = is_high;
}

// Only when all was read: the host then comes once for a whole FIFO.
bool Uart::take_news_of_room() {
  if (!host_waits_ || state_.received_count > 0 || state_.is_in_loopback()) return false;
  host_waits_ = false;
  return true;
}

}  // namespace vhdkit::hypervisor
