#include "vsp-storage/scsi/optical_unit.h"

#include "disk/buffer_cutter.h"
#include "vsp-storage/scsi/disk_reports.h"
#include "vsp-storage/scsi/luns.h"
#include "vsp-storage/scsi/optical_reports.h"
#include "vsp-storage/scsi/transfer.h"

namespace vhdkit::scsi {
namespace {

using disk::Geometry;

std::optional<Sense> not_ready(const OpticalState& unit) {
  if (unit.has_medium()) return std::nullopt;
  return unit.is_tray_open ? sense::no_medium_tray_open : sense::no_medium_tray_closed;
}

Outcome nothing(OpticalState&, const Geometry&, const Command&) { return {}; }

Outcome sense_of_unit(OpticalState& unit, const Geometry&, const Command& command) {
  return request_sense(unit.attentions, not_ready(unit).value_or(sense::none), command);
}

// MMC-6 6.15: a persistent lock is one as well.
Outcome prevent_removal(OpticalState& unit, const Geometry&, const Command& command) {
  unit.removal_locks.set(command.initiator, Cdb(command).bit(4, 0));
  return {};
}

// MMC-6 6.42.
Outcome start_stop(OpticalState& unit, const Geometry&, const Command& command) {
  const Cdb cdb(command);
  if (cdb.u8(4) >> 4 != 0 || !cdb.bit(4, 1)) return {};  // power conditions; the motor
  if (unit.removal_locks.is_prevented()) return check_condition(sense::removal_prevented);
  const bool opens = !cdb.bit(4, 0);
  if (unit.is_tray_open.exchange(opens) == opens || unit.block_count == 0) return {};
  unit.event = opens ? MediaEvent::removal : MediaEvent::new_media;
  if (!opens) unit.attentions.establish(Attention::medium_changed);
  return {};
}

Outcome luns(OpticalState& unit, const Geometry&, const Command& command) {
  if (const auto list = unit.luns.get()) return list->report(command);
  constexpr uint8_t own = 0;  // it stands alone
  return report_luns(std::span(&own, 1), command);
}

Outcome operations(OpticalState&, const Geometry&, const Command& command) {
  return report_supported_operations(optical_operations(), command);
}

async::Task<Outcome> read_medium(OpticalState& unit, disk::Disk& disk, const Command& command) {
  const auto transfer =
      plan_transfer(command, Direction::from_device, unit.block_count, OpticalState::block_bytes);
  if (!transfer) co_return transfer.error();
  if (transfer->bytes == 0) co_return Outcome{.overrun = transfer->overrun};
  const std::vector<iovec> cut = disk::BufferCutter(transfer->buffers).next(transfer->bytes);
  const Buffers buffers = cut;
  const Result<void> read = co_await disk.read(transfer->disk_offset, buffers);
  if (!read) co_return failed(read.error(), Access::read);
  co_return Outcome{.transferred_bytes = transfer->bytes, .overrun = transfer->overrun};
}

constexpr Direction none = Direction::none, in = Direction::from_device;
constexpr Conduct any = Conduct::harmless;  // nobody reserves a drive
constexpr Entrance open = Entrance::open;

// clang-format off
constexpr std::array entries{
    Entry<OpticalState>{{0x00, -1, "TEST UNIT READY", {0x00, 0, 0, 0, 0, 0x04}, 6, none, any, open, true}, nothing},
    Entry<OpticalState>{{0x03, -1, "REQUEST SENSE", {0x03, 0x01, 0, 0, 0xff, 0x04}, 6, in, any, open, false, true}, sense_of_unit},
    Entry<OpticalState>{{0x12, -1, "INQUIRY", {0x12, 0x01, 0xff, 0xff, 0xff, 0x04}, 6, in, any, open, false, true}, inquire_optical},
    Entry<OpticalState>{{0x1a, -1, "MODE SENSE(6)", {0x1a, 0x08, 0xff, 0xff, 0xff, 0x04}, 6, in, any}, optical_mode_sense},
    Entry<OpticalState>{{0x1b, -1, "START STOP UNIT", {0x1b, 0x01, 0, 0, 0xf3, 0x04}, 6, none, any}, start_stop},
    Entry<OpticalState>{{0x1e, -1, "PREVENT ALLOW MEDIUM REMOVAL", {0x1e, 0, 0, 0, 0x01, 0x04}, 6, none, any}, prevent_removal},
    Entry<OpticalState>{{0x25, -1, "READ CAPACITY", {0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0x04}, 10, in, any, open, true}, read_optical_capacity},
    Entry<OpticalState>{{0x28, -1, "READ(10)", {0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, in, any, open, true}, nullptr, read_medium},
    Entry<OpticalState>{{0x43, -1, "READ TOC/PMA/ATIP", {0x43, 0x02, 0x0f, 0, 0, 0, 0xff, 0xff, 0xff, 0xc4}, 10, in, any, open, true}, read_toc},
    Entry<OpticalState>{{0x46, -1, "GET CONFIGURATION", {0x46, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, any, open, false, true}, get_configuration},
    Entry<OpticalState>{{0x4a, -1, "GET EVENT STATUS NOTIFICATION", {0x4a, 0x01, 0, 0, 0xff, 0, 0, 0xff, 0xff, 0x04}, 10, in, any, open, false, true}, get_event_status},
    Entry<OpticalState>{{0x51, -1, "READ DISC INFORMATION", {0x51, 0x07, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, any, open, true}, read_disc_information},
    Entry<OpticalState>{{0x52, -1, "READ TRACK INFORMATION", {0x52, 0x03, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04}, 10, in, any, open, true}, read_track_information},
    Entry<OpticalState>{{0x5a, -1, "MODE SENSE(10)", {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0x04}, 10, in, any}, optical_mode_sense},
    Entry<OpticalState>{{0x88, -1, "READ(16)", {0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 16, in, any, open, true}, nullptr, read_medium},
    Entry<OpticalState>{{0xa0, -1, "REPORT LUNS", {0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, any, open, false, true}, luns},
    Entry<OpticalState>{{0xa3, 0x0c, "REPORT SUPPORTED OPERATION CODES", {0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, any}, operations},
    Entry<OpticalState>{{0xa8, -1, "READ(12)", {0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, any, open, true}, nullptr, read_medium},
    Entry<OpticalState>{{0xad, -1, "READ DISC STRUCTURE", {0xad, 0x0f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04}, 12, in, any, open, true}, read_disc_structure},
    Entry<OpticalState>{{0xbb, -1, "SET CD SPEED", {0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x04}, 12, none, any}, nothing},
    Entry<OpticalState>{{0xbd, -1, "MECHANISM STATUS", {0xbd, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0x04}, 12, in, any}, mechanism_status},
};
// clang-format on

constexpr OperationTable table(entries);

}  // namespace

std::vector<const Operation*> optical_operations() { return table.operations(true); }

OpticalUnit::OpticalUnit(OpticalUnitOptions options)
    : LogicalUnit(state_), state_(std::move(options)) {}

async::Task<Outcome> OpticalUnit::execute(disk::Disk& disk, const Command& command) {
  const auto found = table.find(Cdb(command));
  if (!found) return done(found.error());
  const Entry<OpticalState>& entry = **found;
  if (const auto refused = objection(entry.operation, command, state_.attentions, nullptr))
    return done(*refused);
  if (entry.operation.needs_medium)
    if (const auto sense = not_ready(state_)) return done(check_condition(*sense));
  if (entry.answer != nullptr) return done(entry.answer(state_, disk.geometry(), command));
  return entry.run(state_, disk, command);
}

Result<void> OpticalUnit::insert(const disk::Geometry& geometry) {
  constexpr uint32_t block_bytes = OpticalState::block_bytes;
  if (geometry.logical_sector_bytes > block_bytes)
    return fail(Errc::invalid_argument, "sectors of " +
                                            std::to_string(geometry.logical_sector_bytes) +
                                            " bytes are larger than an optical medium's blocks");
  if (geometry.size_bytes < block_bytes)
    return fail(Errc::invalid_argument,
                "a medium of " + std::to_string(geometry.size_bytes) + " bytes has no whole block");
  state_.block_count = geometry.size_bytes / block_bytes;
  state_.is_tray_open = false;
  state_.event = MediaEvent::new_media;
  state_.attentions.establish(Attention::medium_changed);
  return {};
}

void OpticalUnit::eject() {
  if (state_.block_count.exchange(0) == 0) return;
  state_.event = MediaEvent::removal;
  state_.removal_locks.reset();
}

void OpticalUnit::request_eject() { state_.event = MediaEvent::eject_request; }

}  // namespace vhdkit::scsi
