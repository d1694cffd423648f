#include "hypervisor/runner/devices.h"

#include <unistd.h>

#include "hypervisor/boot/platform.h"

namespace vhdkit::hypervisor {

Devices::Devices(Partition& partition, Console& console, int com1_event)
    : console_(console),
      line_(com1_event),
      uart_(console, line_),
      screen_line_(console, uart_),
      power_(partition),
      power_ports_(power_) {
  ports_.add(platform::com1_port, platform::com1_port_count, uart_);
  ports_.add(platform::rtc_index_port, 2, rtc_);
  power_ports_.add_to(ports_);
  console_.connect(&uart_);
}

void Devices::EventLine::edge() {
  const uint64_t one = 1;
  (void)!write(event_, &one, sizeof one);
}

void Devices::ScreenLine::write(std::span<const std::byte> bytes) {
  if (!uart_.has_sent()) console_.write(bytes);
}

}  // namespace vhdkit::hypervisor
