// A disk as a SCSI unit: an SBC-3 direct access block device over a virtual disk.
#pragma once

#include "vsp-storage/scsi/disk_state.h"
#include "vsp-storage/scsi/logical_unit.h"
#include "vsp-storage/scsi/operations.h"

namespace vhdkit::scsi {

// Its size, sector sizes and write protection are those of the disk that each command brings, so it
// may be larger at the next command (see capacity_changed()).
//
// The path of READ and WRITE takes no lock and allocates nothing but the frames of its coroutine
// and the disk's; the disk gets the guest's own buffers.
class DiskUnit final : public LogicalUnit {
 public:
  explicit DiskUnit(DiskUnitOptions options);

  async::Task<Outcome> execute(disk::Disk& disk, const Command& command) override;
  // A write cache that was off at first and that a guest has switched on stays on.
  void reset() override;
  void power_on() override;

  const DiskUnitOptions& options() const { return state_.options; }

 private:
  DiskState state_;
};

// What a disk does, in the order of operation codes.
std::vector<const Operation*> disk_operations(bool with_provisioning);

}  // namespace vhdkit::scsi
