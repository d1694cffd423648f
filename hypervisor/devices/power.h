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
// keyboard controller's command port, of which only the pulse that resets is there. Their ports are
// in boot/platform.h.
class PowerPorts {
 public:
  // It outlives this.
  explicit PowerPorts(PowerControl& control)
      : sleep_(control), reset_(control), keyboard_(control) {}
  void add_to(Ports& ports);

 private:
  class Sleep final : public ByteDevice {
   public:
    explicit Sleep(PowerControl& control) : control_(control) {}

   private:
    uint8_t read_byte(uint16_t offset) override;
    void write_byte(uint16_t offset, uint8_t value) override;
    PowerControl& control_;
  };
  class Reset final : public ByteDevice {
   public:
    explicit Reset(PowerControl& control) : control_(control) {}

   private:
    uint8_t read_byte(uint16_t offset) override;
    void write_byte(uint16_t offset, uint8_t value) override;
    PowerControl& control_;
  };
  class Keyboard final : public ByteDevice {
   public:
    explicit Keyboard(PowerControl& control) : control_(control) {}

   private:
    uint8_t read_byte(uint16_t offset) override;
    void write_byte(uint16_t offset, uint8_t value) override;
    PowerControl& control_;
  };

  Sleep sleep_;
  Reset reset_;
  Keyboard keyboard_;
};

}  // namespace vhdkit::hypervisor
