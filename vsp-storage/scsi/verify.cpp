#include "vsp-storage/scsi/verify.h"

#include <algorithm>

#include "disk/buffer_cutter.h"
#include "vsp-storage/scsi/block_range.h"
#include "vsp-storage/scsi/command_limits.h"
#include "vsp-storage/scsi/parameter_data.h"
#include "vsp-storage/scsi/transfer.h"

namespace vhdkit::scsi {
namespace {

enum class Check : uint8_t { readable = 0, same_bytes = 1, same_block = 3 };  // BYTCHK

constexpr size_t protection_and_flags = 1;
constexpr uint8_t protection = 0xe0;

struct Comparison {
  uint64_t disk_offset;
  uint64_t bytes;
  uint32_t block_bytes;
  Check check;
  Buffers data;  // holds what it is compared with
  // Passed for each piece by itself, or whoever wants to be alone would wait for all of them. Null:
  // the caller is inside.
  Gate* gate;
  Resumer* resumer;
  Pace* pace;
};
static_assert(std::is_trivially_destructible_v<Comparison>);

// Where a piece differs first from what it should be.
std::optional<size_t> difference(const Comparison& what, uint64_t done,
                                 std::span<const std::byte> piece) {
  if (what.check == Check::same_bytes) return first_difference(what.data, done, piece);
  if (what.check == Check::readable) return std::nullopt;
  for (size_t at = 0; at < piece.size(); at += what.block_bytes)
    if (const auto found = first_difference(what.data, 0, piece.subspan(at, what.block_bytes)))
      return at + *found;
  return std::nullopt;
}

Async<void> read_piece(disk::Disk& disk, const Comparison& what, uint64_t done,
                       std::span<std::byte> piece) {
  if (what.gate == nullptr) co_return co_await disk.read(what.disk_offset + done, piece);
  const Gate::Pass pass = co_await what.gate->enter(what.resumer);
  if (!pass) co_return fail(Errc::busy, "another command has the unit alone");
  co_return co_await disk.read(what.disk_offset + done, piece);
}

async::Task<Outcome> compare(disk::Disk& disk, Comparison what) {
  std::vector<std::byte> buffer(std::min(what.bytes, limits::piece_bytes));
  for (uint64_t done = 0; done < what.bytes;) {
    const std::span piece = std::span(buffer).first(std::min(buffer.size(), what.bytes - done));
    if (what.pace != nullptr) {
      const bool goes_on = co_await what.pace->admit(piece.size());
      if (!goes_on) co_return check_condition(sense::aborted);
    }
    const Result<void> read = co_await read_piece(disk, what, done, piece);
    if (!read) co_return failed(read.error(), Access::read);
    if (const auto at = difference(what, done, piece)) co_return miscompare_at(done + *at);
    done += piece.size();
  }
  co_return Outcome();
}

}  // namespace

async::Task<Outcome> verify(DiskState& unit, disk::Disk& disk, const Command& command) {
  const Cdb cdb(command);
  const disk::Geometry& geometry = disk.geometry();
  const uint32_t block_bytes = geometry.logical_sector_bytes;
  const BlockRange range = range_of(cdb);
  const unsigned check = cdb.u8(protection_and_flags) >> 1 & 3;
  if ((cdb.u8(protection_and_flags) & protection) != 0)
    co_return invalid_in_cdb({.byte = 1, .bit = 7});
  if (check == 2) co_return invalid_in_cdb({.byte = 1, .bit = 2});
  if (!range.fits(block_count(geometry))) co_return check_condition(sense::out_of_range);
  Comparison what{.disk_offset = range.lba * block_bytes,
                  .bytes = range.count * block_bytes,
                  .block_bytes = block_bytes,
                  .check = Check(check),
                  .data = usable_data(command, Direction::to_device),
                  .gate = &unit.gate,
                  .resumer = command.resumer,
                  .pace = command.pace};
  uint64_t needed = 0;
  if (what.check == Check::same_bytes) needed = what.bytes;
  if (what.check == Check::same_block) needed = std::min<uint64_t>(what.bytes, block_bytes);
  const uint64_t held = total_bytes(what.data);
  const bool overrun = held < needed;
  // What the buffers hold is compared, the rest of the range is not.
  if (overrun && what.check == Check::same_bytes) what.bytes = align_down(held, block_bytes);
  if (overrun && what.check == Check::same_block) what.bytes = 0;
  Outcome outcome = co_await compare(disk, what);
  if (outcome.status != Status::good) co_return outcome;
  outcome.overrun = overrun;
  outcome.transferred_bytes = overrun ? what.bytes : needed;
  co_return outcome;
}

async::Task<Outcome> write_and_verify(DiskState& unit, disk::Disk& disk, const Command& command) {
  const disk::Geometry& geometry = disk.geometry();
  const uint32_t block_bytes = geometry.logical_sector_bytes;
  const unsigned check = Cdb(command).u8(protection_and_flags) >> 1 & 3;
  if (check > 1) co_return invalid_in_cdb({.byte = 1, .bit = 2});
  const auto transfer =
      plan_transfer(command, Direction::to_device, block_count(geometry), block_bytes);
  if (!transfer) co_return transfer.error();
  if (unit.is_write_protected(geometry)) co_return check_condition(sense::write_protected);
  if (transfer->bytes == 0) co_return Outcome{.overrun = transfer->overrun};
  const std::vector<iovec> cut = disk::BufferCutter(transfer->buffers).next(transfer->bytes);
  const Buffers buffers = cut;
  const Result<void> written =
      co_await disk.write(transfer->disk_offset, buffers, Durability::durable);
  if (!written) co_return failed(written.error(), Access::write);
  const Comparison what{.disk_offset = transfer->disk_offset,
                        .bytes = transfer->bytes,
                        .block_bytes = block_bytes,
                        .check = Check(check),
                        .data = buffers,
                        .gate = nullptr,
                        .resumer = nullptr,
                        .pace = nullptr};
  Outcome outcome = co_await compare(disk, what);
  if (outcome.status != Status::good) co_return outcome;
  outcome.transferred_bytes = transfer->bytes;
  outcome.overrun = transfer->overrun;
  co_return outcome;
}

async::Task<Outcome> compare_and_write(DiskState& unit, disk::Disk& disk, const Command& command) {
  constexpr uint16_t count_byte = 13;
  const Cdb cdb(command);
  const disk::Geometry& geometry = disk.geometry();
  const uint32_t block_bytes = geometry.logical_sector_bytes;
  const BlockRange range{.lba = cdb.u64(2), .count = cdb.u8(count_byte)};
  if ((cdb.u8(protection_and_flags) & protection) != 0)
    co_return invalid_in_cdb({.byte = 1, .bit = 7});
  if (range.count > limits::compare_and_write_blocks)
    co_return invalid_in_cdb({.byte = count_byte});
  if (!range.fits(block_count(geometry))) co_return check_condition(sense::out_of_range);
  if (unit.is_write_protected(geometry)) co_return check_condition(sense::write_protected);
  if (range.count == 0) co_return Outcome();
  const uint64_t bytes = range.count * block_bytes;
  const Buffers data = usable_data(command, Direction::to_device);
  // Both halves, and nothing else: what it means otherwise is anybody's guess.
  if (total_bytes(data) != 2 * bytes) co_return invalid_in_cdb({.byte = count_byte});
  const Comparison what{.disk_offset = range.lba * block_bytes,
                        .bytes = bytes,
                        .block_bytes = block_bytes,
                        .check = Check::same_bytes,
                        .data = data,
                        .gate = nullptr,
                        .resumer = nullptr,
                        .pace = nullptr};
  Outcome outcome = co_await compare(disk, what);
  if (outcome.status != Status::good) co_return outcome;
  std::vector<std::byte> instance(bytes);
  copy_from(data, bytes, instance);
  const iovec vector{instance.data(), instance.size()};
  const Buffers buffers(&vector, 1);
  const Durability durability = unit.durability(cdb.bit(1, 3));
  const Result<void> written = co_await disk.write(what.disk_offset, buffers, durability);
  if (!written) co_return failed(written.error(), Access::write);
  outcome.transferred_bytes = 2 * bytes;
  co_return outcome;
}

}  // namespace vhdkit::scsi
