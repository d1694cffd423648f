#include "vsp-storage/scsi/provisioning.h"

#include <algorithm>

#include "support/bytes.h"
#include "vsp-storage/scsi/block_range.h"
#include "vsp-storage/scsi/command_limits.h"
#include "vsp-storage/scsi/opcodes.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr size_t unmap_header_bytes = 8, unmap_descriptor_bytes = 16;

// A command that changes blocks other than by Disk::write() ends here.
async::Task<Outcome> settle(DiskState& unit, disk::Disk& disk, uint64_t transferred_bytes) {
  if (unit.durability(false) == Durability::durable) {
    const Result<void> flushed = co_await disk.flush();
    if (!flushed) co_return failed(flushed.error(), Access::write);
  }
  co_return Outcome{.transferred_bytes = transferred_bytes};
}

// SBC-3 table 110.
Checked<std::vector<BlockRange>> unmap_ranges(std::span<const std::byte> list,
                                              uint64_t block_count) {
  std::vector<BlockRange> ranges;
  if (list.size() < unmap_header_bytes)
    return std::unexpected(check_condition(sense::parameter_list_length));
  const uint64_t descriptors_bytes = field_of(list, 2, 2);
  if (descriptors_bytes > list.size() - unmap_header_bytes)
    return std::unexpected(check_condition(sense::parameter_list_length));
  // An incomplete descriptor at the end is left alone (SBC-3 5.25.2).
  const uint64_t count = descriptors_bytes / unmap_descriptor_bytes;
  if (count > limits::unmap_descriptors) return std::unexpected(invalid_in_parameters({.byte = 2}));
  uint64_t sum = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const size_t at = unmap_header_bytes + i * unmap_descriptor_bytes;
    const BlockRange range{.lba = field_of(list, at, 8), .count = field_of(list, at + 8, 4)};
    if (!range.fits(block_count)) return std::unexpected(check_condition(sense::out_of_range));
    sum += range.count;
    if (sum > limits::unmap_blocks)
      return std::unexpected(invalid_in_parameters({.byte = uint16_t(at + 8)}));
    if (range.count != 0) ranges.push_back(range);
  }
  return ranges;
}

struct WriteSame {
  BlockRange range;
  bool has_data;
};

// Everything that a CDB of WRITE SAME can have wrong.
Checked<WriteSame> parse_write_same(const DiskState& unit, const disk::Geometry& geometry,
                                    const Command& command) {
  constexpr uint8_t protection = 0xe0, anchor = 0x10, unmaps = 0x08, obsolete = 0x06,
                    no_data_out = 0x01;
  const Cdb cdb(command);
  const uint8_t flags = cdb.u8(1);
  const bool is_ten = cdb.opcode() == opcode::write_same10;
  if ((flags & protection) != 0) return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 7}));
  if ((flags & anchor) != 0) return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 4}));
  if ((flags & unmaps) != 0 && !unit.can_unmap(geometry))
    return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 3}));
  if ((flags & obsolete) != 0) return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 2}));
  const bool has_no_data = (flags & no_data_out) != 0;
  if (is_ten && has_no_data) return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 0}));
  BlockRange range = range_of(cdb);
  if (!range.fits(block_count(geometry)))
    return std::unexpected(check_condition(sense::out_of_range));
  if (range.count == 0) range.count = block_count(geometry) - range.lba;
  if (range.count > limits::write_same_bytes / geometry.logical_sector_bytes)
    return std::unexpected(invalid_in_cdb({.byte = uint16_t(is_ten ? 7 : 10)}));
  return WriteSame{.range = range, .has_data = !has_no_data};
}

// The gate is passed for each piece by itself, or whoever wants to be alone would wait for all of
// them.
async::Task<Outcome> write_pattern(DiskState& unit, disk::Disk& disk, const Command& command,
                                   BlockRange range, std::span<const std::byte> block) {
  uint64_t left = range.count * block.size();
  uint64_t disk_offset = range.lba * block.size();
  std::vector<std::byte> buffer(std::min(left, limits::piece_bytes));
  for (size_t at = 0; at < buffer.size(); at += block.size())
    std::ranges::copy(block, buffer.begin() + ptrdiff_t(at));
  while (left > 0) {
    const std::span<const std::byte> piece =
        std::span(buffer).first(std::min<uint64_t>(buffer.size(), left));
    if (command.pace != nullptr) {
      const bool goes_on = co_await command.pace->admit(piece.size());
      if (!goes_on) co_return check_condition(sense::aborted);
    }
    const Gate::Pass pass = co_await unit.gate.enter(command.resumer);
    if (!pass) co_return busy();
    const Result<void> written = co_await disk.write(disk_offset, piece);
    if (!written) co_return failed(written.error(), Access::write);
    disk_offset += piece.size();
    left -= piece.size();
  }
  co_return Outcome();
}

enum class Provisioning : uint8_t { mapped = 0, deallocated = 1 };  // SBC-3 table 41

// Descriptors of GET LBA STATUS while extents are added in guest order. A block is deallocated only
// if all of it is.
class StatusList {
 public:
  StatusList(uint64_t start, uint32_t block_bytes, size_t max_count)
      : block_bytes_(block_bytes), max_count_(max_count), end_(start) {}

  bool is_full() const { return descriptors_.size() > max_count_; }
  void add(const disk::Extent& extent) {
    const uint64_t end = extent.disk_offset + extent.length;
    if (extent.kind != disk::ExtentKind::zero) {
      append(align_up(end, block_bytes_), Provisioning::mapped);
      return;
    }
    append(align_up(extent.disk_offset, block_bytes_), Provisioning::mapped);
    append(align_down(end, block_bytes_), Provisioning::deallocated);
  }
  // Whatever the last extent left of a block.
  void finish(uint64_t end) { append(end, Provisioning::mapped); }

  Outcome answer_with(const Command& command) const {
    ParameterData data;
    data.put32(0);
    data.put32(0);
    for (size_t i = 0; i < std::min(descriptors_.size(), max_count_); ++i) {
      const Descriptor& each = descriptors_[i];
      data.put64(each.start / block_bytes_);
      data.put32((each.end - each.start) / block_bytes_);
      data.put8(uint8_t(each.provisioning));
      data.put24(0);
    }
    data.set32(0, data.size() - 4);
    return answer(command, data.bytes(), Cdb(command).u32(10));
  }

 private:
  struct Descriptor {
    uint64_t start, end;  // bytes
    Provisioning provisioning;
  };

  void append(uint64_t end, Provisioning provisioning) {
    if (end <= end_) return;
    if (!descriptors_.empty() && descriptors_.back().provisioning == provisioning) {
      descriptors_.back().end = end;
    } else if (!is_full()) {
      descriptors_.push_back({end_, end, provisioning});
    }
    end_ = end;
  }

  uint64_t block_bytes_;
  size_t max_count_;
  uint64_t end_;  // of what was added
  std::vector<Descriptor> descriptors_;
};

}  // namespace

async::Task<Outcome> unmap(DiskState& unit, disk::Disk& disk, const Command& command) {
  const Cdb cdb(command);
  const disk::Geometry& geometry = disk.geometry();
  const uint32_t block_bytes = geometry.logical_sector_bytes;
  if (cdb.bit(1, 0)) co_return invalid_in_cdb({.byte = 1, .bit = 0});  // ANCHOR
  const size_t length = cdb.u16(7);
  if (length == 0) co_return Outcome();
  const auto list = take_parameters(command, length);
  if (!list) co_return list.error();
  const auto ranges = unmap_ranges(*list, block_count(geometry));
  if (!ranges) co_return ranges.error();
  if (unit.is_write_protected(geometry)) co_return check_condition(sense::write_protected);
  for (const BlockRange& range : *ranges) {
    const Result<void> zeroed =
        co_await disk.zero(range.lba * block_bytes, range.count * block_bytes);
    if (!zeroed) co_return failed(zeroed.error(), Access::write);
  }
  co_return co_await settle(unit, disk, length);
}

async::Task<Outcome> write_same(DiskState& unit, disk::Disk& disk, const Command& command) {
  const disk::Geometry& geometry = disk.geometry();
  const uint32_t block_bytes = geometry.logical_sector_bytes;
  if (unit.is_write_protected(geometry)) co_return check_condition(sense::write_protected);
  const auto parsed = parse_write_same(unit, geometry, command);
  if (!parsed) co_return parsed.error();
  std::vector<std::byte> block(block_bytes);
  const uint64_t data_bytes = parsed->has_data ? block_bytes : 0;
  if (parsed->has_data) {
    const Buffers data = usable_data(command, Direction::to_device);
    // One block and no more: a transfer that is meant otherwise is not understood.
    if (total_bytes(data) != block_bytes) co_return check_condition(sense::data_phase_error);
    copy_from(data, 0, block);
  }
  const BlockRange range = parsed->range;
  if (range.count == 0) co_return Outcome{.transferred_bytes = data_bytes};
  if (is_zero(block)) {
    const Gate::Pass pass = co_await unit.gate.enter(command.resumer);
    if (!pass) co_return busy();
    const Result<void> zeroed =
        co_await disk.zero(range.lba * block_bytes, range.count * block_bytes);
    if (!zeroed) co_return failed(zeroed.error(), Access::write);
  } else {
    const Outcome written = co_await write_pattern(unit, disk, command, range, block);
    if (written.status != Status::good) co_return written;
  }
  co_return co_await settle(unit, disk, data_bytes);
}

async::Task<Outcome> get_lba_status(DiskState&, disk::Disk& disk, const Command& command) {
  // How much of a disk is looked at, in steps that bound the list of extents.
  constexpr uint64_t step_bytes = 64 * MiB, look_bytes = 4 * GiB;
  constexpr uint64_t header_bytes = 8, descriptor_bytes = 16, max_descriptors = 256;
  const Cdb cdb(command);
  const disk::Geometry& geometry = disk.geometry();
  const uint32_t block_bytes = geometry.logical_sector_bytes;
  const uint64_t lba = cdb.u64(2);
  if (lba >= block_count(geometry)) co_return check_condition(sense::out_of_range);
  const uint64_t allocation_length = cdb.u32(10);
  const uint64_t room =
      (std::max(allocation_length, header_bytes) - header_bytes) / descriptor_bytes;
  const uint64_t start = lba * block_bytes;
  const uint64_t end = std::min(geometry.size_bytes, start + look_bytes);
  StatusList list(start, block_bytes, std::clamp<uint64_t>(room, 1, max_descriptors));
  disk::ExtentList extents;
  uint64_t at = start;
  while (at < end && !list.is_full()) {
    extents.clear();
    const Result<void> found = co_await disk.extents(at, std::min(step_bytes, end - at), extents);
    if (!found) co_return failed(found.error(), Access::read);
    if (extents.empty()) break;
    for (const disk::Extent& extent : extents) list.add(extent);
    const disk::Extent& last = extents[extents.size() - 1];
    at = last.disk_offset + last.length;
  }
  list.finish(align_up(at, block_bytes));
  co_return list.answer_with(command);
}

}  // namespace vhdkit::scsi
