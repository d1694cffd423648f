#include "vsp-storage/scsi/transfer.h"

#include <algorithm>

#include "disk/buffer_cutter.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr unsigned force_unit_access_bit = 3;

struct Move {
  Transfer transfer;
  Access access;
  bool is_forced;  // FUA
};
static_assert(std::is_trivially_destructible_v<Move>);

bool has_flags(const Cdb& cdb) { return cdb.opcode() >> 5 != 0; }  // CDBs of 6 bytes have none

async::Task<Outcome> move(DiskState& unit, disk::Disk& disk, const Command& command, Move what) {
  const Gate::Pass pass = co_await unit.gate.enter(command.resumer);
  if (!pass) co_return busy();
  Result<void> moved;
  if (what.access == Access::read) {
    moved = co_await disk.read(what.transfer.disk_offset, what.transfer.buffers);
  } else {
    // Not before it is inside: MODE SELECT changes it while it is alone.
    const Durability durability = unit.durability(what.is_forced);
    moved = co_await disk.write(what.transfer.disk_offset, what.transfer.buffers, durability);
  }
  if (!moved) co_return failed(moved.error(), what.access);
  co_return Outcome{.transferred_bytes = what.transfer.bytes, .overrun = what.transfer.overrun};
}

// The rare case that a buffer is longer than what the command moves of it.
async::Task<Outcome> move_cut(DiskState& unit, disk::Disk& disk, const Command& command,
                              Move what) {
  const std::vector<iovec> cut =
      disk::BufferCutter(what.transfer.buffers).next(what.transfer.bytes);
  what.transfer.buffers = cut;
  co_return co_await move(unit, disk, command, what);
}

// Buffers that end inside a block get the part of it that they hold.
async::Task<Outcome> read_short(DiskState& unit, disk::Disk& disk, const Command& command,
                                Move what) {
  const Transfer& transfer = what.transfer;
  Outcome outcome;
  if (transfer.bytes != 0) outcome = co_await move_cut(unit, disk, command, what);
  if (outcome.status != Status::good) co_return outcome;
  const Gate::Pass pass = co_await unit.gate.enter(command.resumer);
  if (!pass) co_return busy();
  std::vector<std::byte> block(disk.geometry().logical_sector_bytes);
  const std::span<std::byte> bytes(block);
  const Result<void> read = co_await disk.read(transfer.disk_offset + transfer.bytes, bytes);
  if (!read) co_return failed(read.error(), Access::read);
  const uint64_t held = total_bytes(transfer.buffers);
  copy_to(transfer.buffers, transfer.bytes, bytes.first(held - transfer.bytes));
  co_return Outcome{.transferred_bytes = held, .overrun = true};
}

async::Task<Outcome> start(DiskState& unit, disk::Disk& disk, const Command& command, Move what) {
  Transfer& transfer = what.transfer;
  if (transfer.overrun && what.access == Access::read &&
      total_bytes(transfer.buffers) != transfer.bytes)
    return read_short(unit, disk, command, what);
  if (transfer.bytes == 0) return done({.overrun = transfer.overrun});
  const auto whole = exactly(transfer.buffers, transfer.bytes);
  if (!whole) return move_cut(unit, disk, command, what);
  transfer.buffers = *whole;
  return move(unit, disk, command, what);
}

}  // namespace

Checked<Transfer> plan_transfer(const Command& command, Direction direction, uint64_t block_count,
                                uint32_t block_bytes) {
  const Cdb cdb(command);
  constexpr uint8_t protection = 0xe0;  // RDPROTECT, WRPROTECT
  if (has_flags(cdb) && (cdb.u8(1) & protection) != 0)
    return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 7}));
  const BlockRange range = range_of(cdb);
  if (!range.fits(block_count)) return std::unexpected(check_condition(sense::out_of_range));
  const Buffers buffers = usable_data(command, direction);
  const uint64_t wanted = range.count * block_bytes;
  const uint64_t held = total_bytes(buffers);
  return Transfer{.disk_offset = range.lba * block_bytes,
                  .bytes = held < wanted ? align_down(held, block_bytes) : wanted,
                  .buffers = buffers,
                  .overrun = held < wanted};
}

std::optional<Buffers> exactly(Buffers buffers, uint64_t bytes) {
  size_t count = 0;
  for (; bytes > 0; ++count) {
    if (buffers[count].iov_len > bytes) return std::nullopt;
    bytes -= buffers[count].iov_len;
  }
  return buffers.first(count);
}

async::Task<Outcome> read_blocks(DiskState& unit, disk::Disk& disk, const Command& command) {
  const disk::Geometry& geometry = disk.geometry();
  const auto transfer = plan_transfer(command, Direction::from_device, block_count(geometry),
                                      geometry.logical_sector_bytes);
  if (!transfer) return done(transfer.error());
  return start(unit, disk, command,
               {.transfer = *transfer, .access = Access::read, .is_forced = false});
}

async::Task<Outcome> write_blocks(DiskState& unit, disk::Disk& disk, const Command& command) {
  const disk::Geometry& geometry = disk.geometry();
  const auto transfer = plan_transfer(command, Direction::to_device, block_count(geometry),
                                      geometry.logical_sector_bytes);
  if (!transfer) return done(transfer.error());
  if (unit.is_write_protected(geometry)) return done(check_condition(sense::write_protected));
  const Cdb cdb(command);
  const bool is_forced = has_flags(cdb) && cdb.bit(1, force_unit_access_bit);
  return start(unit, disk, command,
               {.transfer = *transfer, .access = Access::write, .is_forced = is_forced});
}

async::Task<Outcome> done(Outcome outcome) { co_return outcome; }

}  // namespace vhdkit::scsi
