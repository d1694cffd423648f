// The clock that tells the date, as a PC has it.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>

#include "hypervisor/devices/ports.h"

namespace vhdkit::hypervisor {

// Motorola's MC146818, two ports: an index, and the register behind it. The date is in BCD, 24
// hours, UTC; guests that set it keep their difference to the host's clock. No interrupts: alarms
// are kept and do not ring. Thread-safe.
class Rtc final : public ByteDevice {
 public:
  using Time = std::chrono::sys_seconds;
  using Now = std::function<Time()>;

  // Second, minute, hour, day, month, year in its century, century.
  using Fields = std::array<unsigned, 7>;

  Rtc();  // by the host's clock
  explicit Rtc(Now now);

 private:
  uint8_t read_byte(uint16_t offset) override;
  void write_byte(uint16_t offset, uint8_t value) override;
  uint8_t read_register() const;
  void write_register(uint8_t value);
  void write_status_b(uint8_t value);
  void take(const Fields& fields);
  Fields shown() const;
  Time guest_time() const { return now_() + difference_; }

  Now now_;
  std::mutex mutex_;
  uint8_t index_ = 0;
  std::array<uint8_t, 128> registers_{};  // those that are just kept
  std::chrono::seconds difference_{0};
  std::optional<Fields> being_set_;  // while the guest holds the clock
};

}  // namespace vhdkit::hypervisor
