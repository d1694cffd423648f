#include "vsp-storage/scsi/medium_commands.h"

#include "vsp-storage/scsi/block_range.h"
#include "vsp-storage/scsi/sense.h"

namespace vhdkit::scsi {

std::optional<Sense> not_ready(Readiness readiness) {
  if (readiness == Readiness::stopped) return sense::start_unit_required;
  if (readiness == Readiness::ejected) return sense::no_medium;
  return std::nullopt;
}

async::Task<Outcome> start_stop_unit(DiskState& unit, disk::Disk& disk, const Command& command) {
  constexpr unsigned start = 0, load_or_eject = 1, no_flush = 2;
  const Cdb cdb(command);
  const bool is_removable = unit.options.is_removable;
  const bool moves_medium = cdb.bit(4, load_or_eject);
  if (cdb.u8(4) >> 4 != 0) co_return Outcome();  // POWER CONDITION
  if (moves_medium && !is_removable) co_return invalid_in_cdb({.byte = 4, .bit = 1});
  if (moves_medium && unit.removal_locks.is_prevented())
    co_return check_condition(sense::removal_prevented);
  if (cdb.bit(4, start)) {
    if (moves_medium || unit.readiness == Readiness::stopped) unit.readiness = Readiness::ready;
    if (const auto sense = not_ready(unit.readiness)) co_return check_condition(*sense);
    co_return Outcome();
  }
  // SBC-3 table 13: only starting is harmless.
  if (unit.reservations.conflicts(command.initiator, Conduct::writes))
    co_return reservation_conflict();
  if (!cdb.bit(4, no_flush) && !disk.geometry().read_only) {
    const Result<void> flushed = co_await disk.flush();
    if (!flushed) co_return failed(flushed.error(), Access::write);
  }
  if (moves_medium) {
    unit.readiness = Readiness::ejected;
  } else if (!is_removable) {
    unit.readiness = Readiness::stopped;
  }
  co_return Outcome();
}

async::Task<Outcome> synchronize_cache(DiskState&, disk::Disk& disk, const Command& command) {
  const disk::Geometry& geometry = disk.geometry();
  if (!range_of(Cdb(command)).fits(block_count(geometry)))
    co_return check_condition(sense::out_of_range);
  if (geometry.read_only) co_return Outcome();
  const Result<void> flushed = co_await disk.flush();
  if (!flushed) co_return failed(flushed.error(), Access::write);
  co_return Outcome();
}

Outcome prevent_allow_removal(RemovalLocks& locks, const Command& command) {
  const unsigned prevent = Cdb(command).u8(4) & 3;
  // SPC-4 table 180: 2 and 3 are obsolete.
  if (prevent > 1) return invalid_in_cdb({.byte = 4, .bit = 1});
  locks.set(command.initiator, prevent == 1);
  return {};
}

}  // namespace vhdkit::scsi
