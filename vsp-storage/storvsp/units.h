// The logical units of a controller as one worker reaches them.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "disk/disk.h"
#include "vsp-storage/scsi/logical_unit.h"
#include "vsp-storage/storvsp/counters.h"
#include "vsp-storage/storvsp/throttle.h"

namespace vhdkit::storvsp {

inline constexpr unsigned max_units = 64;

// One of the lines of a limit.
struct Share {
  std::shared_ptr<Throttle> throttle;
  size_t line = 0;
};

// Bound to the worker's thread. The disk is the worker's own view of the unit's disk; what was
// detached goes with the last request that uses it.
struct UnitAccess {
  std::shared_ptr<scsi::LogicalUnit> unit;
  std::shared_ptr<disk::Disk> disk;
  std::vector<Share> shares;  // each of these limits lets a request pass before it begins
  // Go on when the unit gets another disk.
  std::shared_ptr<UnitCounters> counters = std::make_shared<UnitCounters>();

  // Every request of the unit that waits for a limit ends as aborted. client: as Throttle has it.
  void turn_away(const void* client = nullptr) const {
    for (const Share& share : shares) share.throttle->turn_away(share.line, client);
  }
};

// By logical unit number; null where there is none.
using UnitTable = std::array<std::shared_ptr<UnitAccess>, max_units>;

}  // namespace vhdkit::storvsp
