// What the commands of a disk unit share.
#pragma once

#include <string>

#include "disk/geometry.h"
#include "vsp-storage/scsi/gate.h"
#include "vsp-storage/scsi/reservations.h"
#include "vsp-storage/scsi/unit_state.h"

namespace vhdkit::scsi {

struct DiskUnitOptions {
  std::string vendor = "Msft    ";
  std::string product = "Virtual Disk    ";
  std::string revision = "1.0 ";
  std::string serial_number;  // printable ASCII; empty: the identifier in hexadecimal digits
  std::array<std::byte, 16> identifier{};  // of page 83: the image's own
  bool write_cache = true;                 // at first, and after a reset
  bool is_removable = false;
  // The image's block: what unmapping should be a multiple of. 0: nothing is unmapped.
  uint32_t trim_granularity_bytes = 0;
  uint16_t rotation_rate = 1;  // SBC-3 table 200: 1 does not rotate, else revolutions per minute
};

// SBC-3 4.20, as far as a disk without power conditions has them.
enum class Readiness : uint8_t { ready, stopped, ejected };

// Thread-safe: atomics where READ and WRITE look, locks inside the members elsewhere.
struct DiskState : UnitState {
  explicit DiskState(DiskUnitOptions chosen)
      : options(std::move(chosen)), writes_are_cached(options.write_cache) {}

  const DiskUnitOptions options;
  Reservations reservations{attentions};
  Gate gate;
  std::atomic<bool> writes_are_cached;     // WCE of the caching page
  std::atomic<bool> is_protected = false;  // SWP of the control page
  std::atomic<Readiness> readiness = Readiness::ready;

  bool can_unmap(const disk::Geometry& geometry) const {
    return options.trim_granularity_bytes != 0 && !geometry.read_only;
  }
  bool is_write_protected(const disk::Geometry& geometry) const {
    return geometry.read_only || is_protected.load(std::memory_order_relaxed);
  }
  Durability durability(bool force_unit_access) const {
    return force_unit_access || !writes_are_cached.load(std::memory_order_relaxed)
               ? Durability::durable
               : Durability::cached;
  }
};

}  // namespace vhdkit::scsi
