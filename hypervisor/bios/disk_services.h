// INT 13h: the disks, by cylinder, head and sector, and by sector number.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "hypervisor/bios/call.h"
#include "hypervisor/bios/drive.h"
#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {

// What a disk is in cylinders, heads and sectors, for those who count so: as many cylinders as ten
// bits can tell, 63 sectors, and as few heads as cover the disk. Larger disks have more sectors
// than this reaches.
struct DriveGeometry {
  static constexpr uint32_t sectors_per_track = 63;
  static constexpr uint32_t max_cylinders = 1024;
  static constexpr uint32_t max_heads = 255;

  uint32_t cylinders = 1;
  uint32_t heads = 16;

  uint64_t sector_count() const { return uint64_t{cylinders} * heads * sectors_per_track; }

  // Doubles the heads from 16 on, up to 255: the "LBA-assisted translation" of other BIOSes, by
  // which partition tables were written.
  static DriveGeometry of(uint64_t sector_count);
};

// RBIL, table 00234 "disk operation status".
enum class BiosDiskStatus : uint8_t {
  success = 0x00,
  invalid = 0x01,  // no such function, drive or parameter
  write_protected = 0x03,
  not_found = 0x04,  // a sector past the end
  boundary = 0x09,   // the buffer is not all RAM
  controller_failed = 0x20,
};

// Functions 00h to 04h, 08h, 0Ch, 0Dh, 10h, 11h, 14h, 15h, and the extensions of EDD 41h to 44h,
// 47h, 48h, of fixed disks: the first one is 80h. There are no floppy disks and no CD drives. Every
// other function, and every other drive, is an error. A transfer goes straight between the disk and
// the guest's memory; its buffer must be RAM as a whole, and may cross what 16 bits of offset
// reach.
class DiskServices {
 public:
  static constexpr uint8_t first_disk = 0x80;
  // What fits into the numbers of drives.
  static constexpr size_t max_disks = 128;

  // REQUIRES: at most max_disks. The drives belong to it; the memory outlives it.
  DiskServices(GuestRam& ram, std::vector<std::unique_ptr<Drive>> drives);

  size_t count() const { return disks_.size(); }
  Drive& drive(size_t number) { return *disks_[number].drive; }

  // Again, with the call as it was: the drive has been asked for more than it may move now.
  BiosAnswer answer(BiosCall& call);

 private:
  struct Disk {
    std::unique_ptr<Drive> drive;
    DriveGeometry geometry;
  };
  enum class Direction : uint8_t { read, write, verify };
  struct Transfer {
    Direction direction = Direction::read;
    uint64_t first_sector = 0;
    uint32_t sector_count = 0;
    uint64_t address = 0;  // guest physical
  };

  Disk* find(uint8_t number);
  // Nothing, of these and of transfer(): not now.
  std::optional<BiosDiskStatus> serve(BiosCall& call, Disk& disk);
  std::optional<BiosDiskStatus> transfer_by_place(BiosCall& call, Disk& disk, Direction direction);
  std::optional<BiosDiskStatus> transfer_by_number(BiosCall& call, Disk& disk, Direction direction);
  BiosDiskStatus seek_by_number(const BiosCall& call, const Disk& disk);
  std::optional<BiosDiskStatus> transfer(Disk& disk, const Transfer& transfer);
  BiosDiskStatus tell_geometry(BiosCall& call, const Disk& disk) const;
  BiosDiskStatus tell_type(BiosCall& call, const Disk& disk) const;
  BiosDiskStatus tell_extensions(BiosCall& call) const;
  BiosDiskStatus tell_parameters(const BiosCall& call, const Disk& disk);

  GuestRam& ram_;
  std::vector<Disk> disks_;
  BiosDiskStatus last_ = BiosDiskStatus::success;
};

}  // namespace vhdkit::hypervisor
