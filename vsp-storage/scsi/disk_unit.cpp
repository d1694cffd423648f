#include "vsp-storage/scsi/disk_unit.h"

#include "vsp-storage/scsi/disk_reports.h"
#include "vsp-storage/scsi/inquiry.h"
#include "vsp-storage/scsi/luns.h"
#include "vsp-storage/scsi/medium_commands.h"
#include "vsp-storage/scsi/provisioning.h"
#include "vsp-storage/scsi/reservation_commands.h"
#include "vsp-storage/scsi/transfer.h"
#include "vsp-storage/scsi/verify.h"

namespace vhdkit::scsi {
namespace {

using disk::Geometry;

constexpr Direction none = Direction::none, in = Direction::from_device, out = Direction::to_device;
constexpr Conduct always = Conduct::always, harmless = Conduct::harmless, reads = Conduct::reads,
                  writes = Conduct::writes;
constexpr Entrance open = Entrance::open, shared = Entrance::shared, alone = Entrance::alone,
                   itself = Entrance::itself;

Outcome test_unit_ready(DiskState&, const Geometry&, const Command&) { return {}; }

Outcome sense_of_unit(DiskState& unit, const Geometry&, const Command& command) {
  return request_sense(unit.attentions, not_ready(unit.readiness).value_or(sense::none), command);
}

Outcome inquire(DiskState& unit, const Geometry& geometry, const Command& command) {
  return inquire_disk(unit, geometry, command);
}

Outcome reserve_unit(DiskState& unit, const Geometry&, const Command& command) {
  return reserve(unit.reservations, command);
}

Outcome release_unit(DiskState& unit, const Geometry&, const Command& command) {
  return release(unit.reservations, command);
}

Outcome keys(DiskState& unit, const Geometry&, const Command& command) {
  return read_keys(unit.reservations, command);
}

Outcome reservation(DiskState& unit, const Geometry&, const Command& command) {
  return read_reservation(unit.reservations, command);
}

Outcome capabilities(DiskState&, const Geometry&, const Command& command) {
  return report_reservation_capabilities(command);
}

Outcome full_status(DiskState& unit, const Geometry&, const Command& command) {
  return read_full_status(unit.reservations, command);
}

Outcome reserve_out(DiskState& unit, const Geometry&, const Command& command) {
  return persistent_reserve_out(unit.reservations, command);
}

Outcome prevent_removal(DiskState& unit, const Geometry&, const Command& command) {
  // SPC-4 table 68: letting go is harmless.
  const bool prevents = (Cdb(command).u8(4) & 3) != 0;
  if (prevents && unit.reservations.conflicts(command.initiator, writes))
    return reservation_conflict();
  return prevent_allow_removal(unit.removal_locks, command);
}

Outcome luns(DiskState& unit, const Geometry&, const Command& command) {
  if (const auto list = unit.luns.get()) return list->report(command);
  constexpr uint8_t own = 0;  // it stands alone
  return report_luns(std::span(&own, 1), command);
}

Outcome operations(DiskState& unit, const Geometry& geometry, const Command& command) {
  return report_supported_operations(disk_operations(unit.can_unmap(geometry)), command);
}

Outcome task_management(DiskState&, const Geometry&, const Command& command) {
  return report_task_management(command);
}

// clang-format off
constexpr std::array entries{
    Entry<DiskState>{{0x00, -1, "TEST UNIT READY", {0x00, 0, 0, 0, 0, 0x04}, 6, none, harmless, open, true}, test_unit_ready},
    Entry<DiskState>{{0x03, -1, "REQUEST SENSE", {0x03, 0x01, 0, 0, 0xff, 0x04}, 6, in, always, open, false, true}, sense_of_unit},
    Entry<DiskState>{{0x08, -1, "READ(6)", {0x08, 0x1f, 0xff, 0xff, 0xff, 0x04}, 6, in, reads, itself, true}, nullptr, read_blocks},
    Entry<DiskState>{{0x0a, -1, "WRITE(6)", {0x0a, 0x1f, 0xff, 0xff, 0xff, 0x04}, 6, out, writes, itself, true}, nullptr, write_blocks},
    Entry<DiskState>{{0x12, -1, "INQUIRY", {0x12, 0x01, 0xff, 0xff, 0xff, 0x04}, 6, in, always, open, false, true}, inquire},
    Entry<DiskState>{{0x15, -1, "MODE SELECT(6)", {0x15, 0x11, 0, 0, 0xff, 0x04}, 6, out, writes, alone}, nullptr, disk_mode_select},
    Entry<DiskState>{{0x16, -1, "RESERVE(6)", {0x16, 0x1f, 0, 0, 0, 0x04}, 6, none, always}, reserve_unit},
    Entry<DiskState>{{0x17, -1, "RELEASE(6)", {0x17, 0x1f, 0, 0, 0, 0x04}, 6, none, always}, release_unit},
    Entry<DiskState>{{0x1a, -1, "MODE SENSE(6)", {0x1a, 0x08, 0xff, 0xff, 0xff, 0x04}, 6, in, harmless}, disk_mode_sense},
    Entry<DiskState>{{0x1b, -1, "START STOP UNIT", {0x1b, 0x01, 0, 0, 0xf7, 0x04}, 6, none, harmless, open}, nullptr, start_stop_unit},
    Entry<DiskState>{{0x1d, -1, "SEND DIAGNOSTIC", {0x1d, 0xf7, 0, 0xff, 0xff, 0x04}, 6, none, writes}, send_diagnostic},
    Entry<DiskState>{{0x1e, -1, "PREVENT ALLOW MEDIUM REMOVAL", {0x1e, 0, 0, 0, 0x03, 0x04}, 6, none, always}, prevent_removal},
    Entry<DiskState>{{0x25, -1, "READ CAPACITY(10)", {0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0x04}, 10, in, harmless, open, true}, read_capacity10},
    Entry<DiskState>{{0x28, -1, "READ(10)", {0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, in, reads, itself, true}, nullptr, read_blocks},
    Entry<DiskState>{{0x2a, -1, "WRITE(10)", {0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, out, writes, itself, true}, nullptr, write_blocks},
    Entry<DiskState>{{0x2e, -1, "WRITE AND VERIFY(10)", {0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, out, writes, shared, true}, nullptr, write_and_verify},
    Entry<DiskState>{{0x2f, -1, "VERIFY(10)", {0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, out, reads, itself, true}, nullptr, verify},
    Entry<DiskState>{{0x34, -1, "PRE-FETCH(10)", {0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, none, reads, open, true}, prefetch},
    Entry<DiskState>{{0x35, -1, "SYNCHRONIZE CACHE(10)", {0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, none, writes, open, true}, nullptr, synchronize_cache},
    Entry<DiskState>{{0x41, -1, "WRITE SAME(10)", {0x41, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, out, writes, itself, true}, nullptr, write_same},
    Entry<DiskState>{{0x42, -1, "UNMAP", {0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04}, 10, out, writes, shared, true, false, true}, nullptr, unmap},
    Entry<DiskState>{{0x4d, -1, "LOG SENSE", {0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, in, always}, log_sense},
    Entry<DiskState>{{0x55, -1, "MODE SELECT(10)", {0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04}, 10, out, writes, alone}, nullptr, disk_mode_select},
    Entry<DiskState>{{0x56, -1, "RESERVE(10)", {0x56, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x04}, 10, none, always}, reserve_unit},
    Entry<DiskState>{{0x57, -1, "RELEASE(10)", {0x57, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x04}, 10, none, always}, release_unit},
    Entry<DiskState>{{0x5a, -1, "MODE SENSE(10)", {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, harmless}, disk_mode_sense},
    Entry<DiskState>{{0x5e, 0x00, "PERSISTENT RESERVE IN, READ KEYS", {0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, harmless}, keys},
    Entry<DiskState>{{0x5e, 0x01, "PERSISTENT RESERVE IN, READ RESERVATION", {0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, harmless}, reservation},
    Entry<DiskState>{{0x5e, 0x02, "PERSISTENT RESERVE IN, REPORT CAPABILITIES", {0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, harmless}, capabilities},
    Entry<DiskState>{{0x5e, 0x03, "PERSISTENT RESERVE IN, READ FULL STATUS", {0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, harmless}, full_status},
    Entry<DiskState>{{0x5f, 0x00, "PERSISTENT RESERVE OUT, REGISTER", {0x5f, 0x00, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, out, always}, reserve_out},
    Entry<DiskState>{{0x5f, 0x01, "PERSISTENT RESERVE OUT, RESERVE", {0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, out, always}, reserve_out},
    Entry<DiskState>{{0x5f, 0x02, "PERSISTENT RESERVE OUT, RELEASE", {0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, out, always}, reserve_out},
    Entry<DiskState>{{0x5f, 0x03, "PERSISTENT RESERVE OUT, CLEAR", {0x5f, 0x03, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, out, always}, reserve_out},
    Entry<DiskState>{{0x5f, 0x04, "PERSISTENT RESERVE OUT, PREEMPT", {0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, out, always}, reserve_out},
    Entry<DiskState>{{0x5f, 0x05, "PERSISTENT RESERVE OUT, PREEMPT AND ABORT", {0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, out, always}, reserve_out},
    Entry<DiskState>{{0x5f, 0x06, "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", {0x5f, 0x06, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x04}, 10, out, always}, reserve_out},
    Entry<DiskState>{{0x88, -1, "READ(16)", {0x88, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, in, reads, itself, true}, nullptr, read_blocks},
    Entry<DiskState>{{0x89, -1, "COMPARE AND WRITE", {0x89, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0, 0x04}, 16, out, writes, alone, true}, nullptr, compare_and_write},
    Entry<DiskState>{{0x8a, -1, "WRITE(16)", {0x8a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, out, writes, itself, true}, nullptr, write_blocks},
    Entry<DiskState>{{0x8e, -1, "WRITE AND VERIFY(16)", {0x8e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, out, writes, shared, true}, nullptr, write_and_verify},
    Entry<DiskState>{{0x8f, -1, "VERIFY(16)", {0x8f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, out, reads, itself, true}, nullptr, verify},
    Entry<DiskState>{{0x90, -1, "PRE-FETCH(16)", {0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, none, reads, open, true}, prefetch},
    Entry<DiskState>{{0x91, -1, "SYNCHRONIZE CACHE(16)", {0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, none, writes, open, true}, nullptr, synchronize_cache},
    Entry<DiskState>{{0x93, -1, "WRITE SAME(16)", {0x93, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, out, writes, itself, true}, nullptr, write_same},
    Entry<DiskState>{{0x9e, 0x10, "READ CAPACITY(16)", {0x9e, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x04}, 16, in, harmless, open, true}, read_capacity16},
    Entry<DiskState>{{0x9e, 0x12, "GET LBA STATUS", {0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, in, reads, shared, true}, nullptr, get_lba_status},
    Entry<DiskState>{{0xa0, -1, "REPORT LUNS", {0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, always, open, false, true}, luns},
    Entry<DiskState>{{0xa3, 0x0c, "REPORT SUPPORTED OPERATION CODES", {0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, harmless}, operations},
    Entry<DiskState>{{0xa3, 0x0d, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", {0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, harmless}, task_management},
    Entry<DiskState>{{0xa8, -1, "READ(12)", {0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, reads, itself, true}, nullptr, read_blocks},
    Entry<DiskState>{{0xaa, -1, "WRITE(12)", {0xaa, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, out, writes, itself, true}, nullptr, write_blocks},
    Entry<DiskState>{{0xae, -1, "WRITE AND VERIFY(12)", {0xae, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, out, writes, shared, true}, nullptr, write_and_verify},
    Entry<DiskState>{{0xaf, -1, "VERIFY(12)", {0xaf, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, out, reads, itself, true}, nullptr, verify},
};
// clang-format on

constexpr OperationTable table(entries);

using Run = async::Task<Outcome> (*)(DiskState&, disk::Disk&, const Command&);

async::Task<Outcome> run_shared(DiskState& unit, disk::Disk& disk, const Command& command,
                                Run run) {
  const Gate::Pass pass = co_await unit.gate.enter(command.resumer);
  if (!pass) co_return busy();
  co_return co_await run(unit, disk, command);
}

async::Task<Outcome> run_alone(DiskState& unit, disk::Disk& disk, const Command& command, Run run) {
  const Gate::Pass pass = co_await unit.gate.enter_alone(command.resumer);
  if (!pass) co_return busy();
  co_return co_await run(unit, disk, command);
}

}  // namespace

std::vector<const Operation*> disk_operations(bool with_provisioning) {
  return table.operations(with_provisioning);
}

DiskUnit::DiskUnit(DiskUnitOptions options) : LogicalUnit(state_), state_(std::move(options)) {}

async::Task<Outcome> DiskUnit::execute(disk::Disk& disk, const Command& command) {
  const auto found = table.find(Cdb(command));
  if (!found) return done(found.error());
  const Entry<DiskState>& entry = **found;
  const Operation& operation = entry.operation;
  if (operation.needs_provisioning && !state_.can_unmap(disk.geometry()))
    return done(check_condition(sense::invalid_opcode));
  if (const auto refused = objection(operation, command, state_.attentions, &state_.reservations))
    return done(*refused);
  if (operation.needs_medium)
    if (const auto sense = not_ready(state_.readiness.load(std::memory_order_relaxed)))
      return done(check_condition(*sense));
  if (entry.answer != nullptr) return done(entry.answer(state_, disk.geometry(), command));
  switch (operation.entrance) {
    case Entrance::shared:
      return run_shared(state_, disk, command, entry.run);
    case Entrance::alone:
      return run_alone(state_, disk, command, entry.run);
    default:
      return entry.run(state_, disk, command);
  }
}

void DiskUnit::reset() {
  LogicalUnit::reset();
  state_.reservations.reset();
  // The other way round would leave writes behind that nobody has made durable.
  if (state_.options.write_cache) state_.writes_are_cached = true;
  state_.is_protected = false;
}

void DiskUnit::power_on() {
  reset();
  state_.reservations.power_on();
  state_.writes_are_cached = state_.options.write_cache;
  state_.readiness = Readiness::ready;
  LogicalUnit::power_on();
}

}  // namespace vhdkit::scsi
