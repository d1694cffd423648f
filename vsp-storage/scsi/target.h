// A SCSI target: the units behind its LUNs, and an answer to commands that are for none of them.
#pragma once

#include "vsp-storage/scsi/luns.h"

namespace vhdkit::scsi {

struct Address {
  uint8_t path;
  uint8_t target;
  uint8_t lun;
};

// Thread-safe. Units are at path 0, target 0; everything else is absent.
//
// A transport's thread keeps a table of its own, {unit, its view of the unit's disk} by LUN, and
// fills it anew when generation() has changed, which costs no lock. Commands for a unit of the
// table go to LogicalUnit::execute() (REPORT LUNS too), all others to execute_absent(). A unit that
// is detached while commands run on it lives until the tables let it go.
class Target {
 public:
  static constexpr size_t max_luns = Luns::max_luns;

  Target() : luns_(std::make_shared<Luns>()) {}

  // See Luns.
  Result<void> attach(uint8_t lun, std::shared_ptr<LogicalUnit> unit) {
    return luns_->attach(lun, std::move(unit));
  }
  Result<std::shared_ptr<LogicalUnit>> detach(uint8_t lun) { return luns_->detach(lun); }
  std::shared_ptr<LogicalUnit> find(uint8_t lun) const { return luns_->find(lun); }
  uint64_t generation() const { return luns_->generation(); }

  // For an address without a unit (SPC-4 4.3, SAM-5 5.11): INQUIRY succeeds and says that nothing
  // is there, REPORT LUNS lists the LUNs of path 0, target 0, and none elsewhere; REQUEST SENSE
  // succeeds. All others end with LOGICAL UNIT NOT SUPPORTED.
  Outcome execute_absent(const Address& address, const Command& command) const;

 private:
  std::shared_ptr<Luns> luns_;
};

}  // namespace vhdkit::scsi
