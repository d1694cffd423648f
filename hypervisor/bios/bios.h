// A PC's BIOS, from power-on until a kernel has taken over.
#pragma once

#include <functional>
#include <mutex>

#include "hypervisor/bios/disk_services.h"
#include "hypervisor/bios/keyboard_services.h"
#include "hypervisor/bios/memory_services.h"
#include "hypervisor/bios/system_services.h"
#include "hypervisor/bios/time_services.h"
#include "hypervisor/bios/video_services.h"
#include "hypervisor/boot/entry.h"

namespace vhdkit::hypervisor {

// Thread-safe, but for boot().
class Bios final : public Firmware {
 public:
  using Clock = std::function<SystemServices::Time()>;
  using Pause = std::function<void(std::chrono::milliseconds)>;

  // How long a call that waits holds the processor's thread before interrupts are let in.
  static constexpr std::chrono::milliseconds pause{5};

  struct Parts {
    GuestRam& ram;
    const Ports& ports;  // the serial port and the clock among them
    SerialHost& line;    // where the screen is
    std::vector<std::unique_ptr<Drive>> drives;
    unsigned vp_count = 1;
  };
  // All but the drives outlive it.
  explicit Bios(Parts parts);
  // With another clock, and other ways to pass the time.
  Bios(Parts parts, Clock clock, Pause wait);

  // Puts everything below 1 MiB that a BIOS has there, the ACPI and SMBIOS tables, and the first
  // disk's first sector at 0000:7C00. Once.
  //
  // REQUIRES: ram is as GuestRam::create() or clear() left it.
  // Errors: not_found: there is no boot loader: no disk, or the sector is all zeroes, has no code
  // or no 55 AA at its end; those of the disk; invalid_argument (check_machine()).
  Result<Entry> boot();

  BiosAnswer answer(BiosCall& call) override;
  void hand_over() override;

 private:
  Result<void> load_boot_sector();
  KeyboardServices::Answer serve(BiosCall& call);
  KeyboardServices::Answer serve_system(BiosCall& call);
  KeyboardServices::Answer serve_keyboard(BiosCall& call);

  GuestRam& ram_;
  unsigned vp_count_;
  Clock clock_;
  Pause wait_;
  std::mutex mutex_;
  Screen screen_;
  VideoServices video_;
  DiskServices disks_;
  KeyboardServices keyboard_;
  MemoryServices memory_;
  SystemServices system_;
  TimeServices time_;
};

}  // namespace vhdkit::hypervisor
