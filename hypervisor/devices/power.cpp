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
  ports.add(platform::system_control_port, 1, system_);
}

void PowerPorts::write_sleep_control(PowerControl& control, uint16_t offset, uint8_t value) {
  if (offset != sleep_control_offset || (value & platform::sleep_enable) == 0) return;
  const unsigned type = (value & platform::sleep_type_mask) >> platform::sleep_type_shift;
  if (type == platform::sleep_type_soft_off) control.power_off();
}

void PowerPorts::write_reset(PowerControl& control, uint16_t, uint8_t value) {
  if (value == platform::reset_value) control.reset();
}

void PowerPorts::write_keyboard_command(PowerControl& control, uint16_t, uint8_t value) {
  if (value == platform::keyboard_pulse_reset) control.reset();
}

void PowerPorts::write_system_control(PowerControl& control, uint16_t, uint8_t value) {
  if ((value & platform::system_control_reset) != 0) control.reset();
}

}  // namespace vhdkit::hypervisor
