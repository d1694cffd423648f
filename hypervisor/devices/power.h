// The ways by which a guest switches its machine off and restarts it.
#pragma once

#include "hypervisor/boot/platform.h"
#include "hypervisor/devices/ports.h"

namespace vhdkit::hypervisor {

// Thread-safe. Called on the thread of the processor that wrote.
class PowerControl {
 public:
  virtual ~PowerControl() = default;
  virtual void power_off() = 0;
  virtual void reset() = 0;
};

// ACPI's sleep control and status registers (ACPI 6.5, 4.8.3.7), its reset register, the keyboard
// controller's command port, of which only the pulse that resets is there, and system control port
// A: their ports are in boot/platform.h. They read as 0, nothing is under way, and no key waits; of
// the last one the A20 line reads as open.
class PowerPorts {
 public:
  // It outlives this.
  explicit PowerPorts(PowerControl& control)
      : sleep_(control, write_sleep_control),
        reset_(control, write_reset),
        keyboard_(control, write_keyboard_command),
        system_(control, write_system_control, platform::system_control_a20) {}
  void add_to(Ports& ports);

 private:
  class Port final : public ByteDevice {
   public:
    using Act = void (*)(PowerControl& control, uint16_t offset, uint8_t value);
    Port(PowerControl& control, Act act, uint8_t shown = 0)
        : control_(control), act_(act), shown_(shown) {}

   private:
    uint8_t read_byte(uint16_t) override { return shown_; }
    void write_byte(uint16_t offset, uint8_t value) override { act_(control_, offset, value); }

    PowerControl& control_;
    Act act_;
    uint8_t shown_;
  };
  static void write_sleep_control(PowerControl& control, uint16_t offset, uint8_t value);
  static void write_reset(PowerControl& control, uint16_t offset, uint8_t value);
  static void write_keyboard_command(PowerControl& control, uint16_t offset, uint8_t value);
  static void write_system_control(PowerControl& control, uint16_t offset, uint8_t value);

  Port sleep_;
  Port reset_;
  Port keyboard_;
  Port system_;
};

}  // namespace vhdkit::hypervisor
