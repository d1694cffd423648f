// A DVD drive as a SCSI unit (MMC-6), over a disk that holds an ISO image.
#pragma once

#include "vsp-storage/scsi/logical_unit.h"
#include "vsp-storage/scsi/operations.h"
#include "vsp-storage/scsi/optical_state.h"

namespace vhdkit::scsi {

// Blocks have 2048 bytes, so the disk's sectors must not be larger. Nothing is ever written. The
// medium is exchanged so: give every thread its view of the new disk, then insert(). Without a
// medium any disk may come with a command: it is not looked at.
class OpticalUnit final : public LogicalUnit {
 public:
  // The drive is empty, its tray closed.
  explicit OpticalUnit(OpticalUnitOptions options);

  async::Task<Outcome> execute(disk::Disk& disk, const Command& command) override;

  // Closes the tray over a new medium: 28/00 for every initiator, and a media event. What is left
  // behind the last whole block is not shown. Errors: invalid_argument: sectors larger than a
  // block, or no whole block at all.
  Result<void> insert(const disk::Geometry& geometry);
  // Takes the medium out, whether a guest has locked it or not.
  void eject();
  // Asks the guest to let the medium go, as a drive's button does: it sees a media event, and
  // ejects by itself (START STOP UNIT) if it wants to.
  void request_eject();

  // The tray is closed and has a medium in it. A guest that ejects opens the tray; what lies in it
  // is there again when it closes it.
  bool has_medium() const { return state_.has_medium(); }

 private:
  OpticalState state_;
};

// What the drive does, in the order of operation codes.
std::vector<const Operation*> optical_operations();

}  // namespace vhdkit::scsi
