#include "hypervisor/devices/power.h"

#include "hypervisor/boot/platform.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint16_t sleep_control_offset = 0;
static_assert(platform::sleep_status_port == platform::sleep_control_port + 1);

}  // namespace

void PowerPorts::add_to(Ports& ports) {
  ports.add(platform::sleep_control_port, 2, sleep_);
  ports.add(platform::reset_port, 1, reset_);
  ports.add(platform::keyboard_command_port, 1, keyboard_);
}

uint8_t PowerPorts::Sleep::read_byte(uint16_t) { return 0; }

void PowerPorts::Sleep::write_byte(uint16_t offset, uint8_t value) {
  if (offset != sleep_control_offset || (value & platform::sleep_enable) == 0) return;
  const unsigned type = (value & platform::sleep_type_mask) >> platform::sleep_type_shift;
  if (type == platform::sleep_type_soft_off) control_.power_off();
}

uint8_t PowerPorts::Reset::read_byte(uint16_t) { return 0; }

void PowerPorts::Reset::write_byte(uint16_t, uint8_t value) {
  if (value == platform::reset_value) control_.reset();
}

// Nothing waits to be read, and everything written was taken.
uint8_t PowerPorts::Keyboard::read_byte(uint16_t) { return 0; }

void PowerPorts::Keyboard::write_byte(uint16_t, uint8_t value) {
  if (value == platform::keyboard_pulse_reset) control_.reset();
}

}  // namespace vhdkit::hypervisor
