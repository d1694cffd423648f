// The list of a target's units.
#pragma once

#include "vsp-storage/scsi/logical_unit.h"

namespace vhdkit::scsi {

// Thread-safe; generation() takes no lock. Where a unit comes or goes, all initiators of the others
// get the unit attention REPORTED LUNS DATA HAS CHANGED.
class Luns : public std::enable_shared_from_this<Luns> {
 public:
  static constexpr size_t max_luns = 64;

  // Errors: invalid_argument: lun is not below max_luns; exists: there is one.
  Result<void> attach(uint8_t lun, std::shared_ptr<LogicalUnit> unit);
  // The unit lives on until its last holder lets it go. Errors: not_found.
  Result<std::shared_ptr<LogicalUnit>> detach(uint8_t lun);
  // Null where there is none.
  std::shared_ptr<LogicalUnit> find(uint8_t lun) const;

  // Changes whenever a unit has come or gone.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  // REPORT LUNS, SPC-4 6.33: of all, with the attention given up on every unit for whoever asks.
  Outcome report(const Command& command) const;

 private:
  void changed(const LogicalUnit& unit);

  mutable std::mutex mutex_;  // of the units
  std::array<std::shared_ptr<LogicalUnit>, max_luns> units_;
  std::atomic<uint64_t> generation_ = 1;
};

// REPORT LUNS with these numbers, each below 256, in order.
Outcome report_luns(std::span<const uint8_t> luns, const Command& command);

}  // namespace vhdkit::scsi
