// The ways by which a guest switches its machine off and restarts it.
#pragma once

#include "hypervisor/devices/ports.h"

namespace vhdkit::hypervisor {

// Thread-safe. Called on the thread of the processor that wrote.
class PowerControl {
 public:
  virtual ~PowerControl() = default;
  virtual void power_off() = 0;
  virtual void reset() = 0;
};

// ACPI's sleep control and status registers (ACPI 6.5, 4.8.3.7), its reset register, and the
// keyboard controller's command port, of which only the pulse that resets is there: their ports are
// in boot/platform.h. All of them read as 0: nothing is under way, and no key waits.
class PowerPorts {
 public:
  // It outlives this.
  explicit PowerPorts(PowerControl& control)
      : sleep_(control, write_sleep_control),
        reset_(control, write_reset),
        keyboard_(control, write_keyboard_command) {}
  void add_to(Ports& ports);

 private:
  class Port final : public ByteDevice {
   public:
    using Act = void (*)(PowerControl& control, uint16_t offset, uint8_t value);
    Port(PowerControl& control, Act act) : control_(control), act_(act) {}

   private:
    uint8_t read_byte(uint16_t) override { return 0; }
    void write_byte(uint16_t offset, uint8_t value) override { act_(control_, offset, value); }

    PowerControl& control_;
    Act act_;
  };
  static void write_sleep_control(PowerControl& control, uint16_t offset, uint8_t value);
  static void write_reset(PowerControl& control, uint16_t offset, uint8_t value);
  static void write_keyboard_command(PowerControl& control, uint16_t offset, uint8_t value);

  Port sleep_;
  Port reset_;
  Port keyboard_;
};

}  // namespace vhdkit::hypervisor
