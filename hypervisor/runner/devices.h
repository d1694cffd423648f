// What a partition has besides processors, memory, VMBus and firmware: a serial port with its
// console, a clock, the power.
#pragma once

#include "hypervisor/devices/power.h"
#include "hypervisor/devices/rtc.h"
#include "hypervisor/devices/uart.h"
#include "hypervisor/partition/partition.h"
#include "hypervisor/runner/console.h"

namespace vhdkit::hypervisor {

// Connects the console while it lives. Both outlive it.
class Devices {
 public:
  // com1_event: the eventfd of the serial port's interrupt.
  Devices(Partition& partition, Console& console, int com1_event);
  // Nobody types any more, and no processor waits for a reader. Before it goes.
  void disconnect() { console_.connect(nullptr); }

  const Ports& ports() const { return ports_; }
  // The line of the firmware's screen: the console, until the guest speaks on the serial port by
  // itself. A boot loader that does both says all twice, and moves two cursors on one terminal.
  SerialHost& screen_line() { return screen_line_; }

 private:
  // The pin of the I/O APIC that the serial port is connected to.
  class EventLine final : public InterruptLine {
   public:
    explicit EventLine(int event) : event_(event) {}
    void edge() override;

   private:
    int event_;
  };

  class Power final : public PowerControl {
   public:
    explicit Power(Partition& partition) : partition_(partition) {}
    void power_off() override { partition_.end({.end = End::power_off, .message = {}}); }
    void reset() override { partition_.end({.end = End::reset, .message = {}}); }

   private:
    Partition& partition_;
  };

  class ScreenLine final : public SerialHost {
   public:
    ScreenLine(SerialHost& console, const Uart& uart) : console_(console), uart_(uart) {}
    void write(std::span<const std::byte> bytes) override;
    void has_room() override { console_.has_room(); }

   private:
    SerialHost& console_;
    const Uart& uart_;
  };

  Console& console_;
  EventLine line_;
  Uart uart_;
  ScreenLine screen_line_;
  Rtc rtc_;
  Power power_;
  PowerPorts power_ports_;
  Ports ports_;
};

}  // namespace vhdkit::hypervisor
