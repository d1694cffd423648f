#include "disk/disk.h"

#include "support/checked.h"

namespace vhdkit::disk {
namespace {

std::string range_text(uint64_t disk_offset, uint64_t length) {
  return std::to_string(length) + " bytes at disk offset " + std::to_string(disk_offset);
}

}  // namespace

Result<void> Disk::check_transfer(uint64_t disk_offset, uint64_t length) const {
  if (!range_fits(disk_offset, length, geometry().size_bytes))
    return fail(Errc::out_of_range, range_text(disk_offset, length) + " end outside the disk of " +
                                        std::to_string(geometry().size_bytes) + " bytes");
  const uint32_t sector = geometry().logical_sector_bytes;
  if (!is_aligned(disk_offset, sector) || !is_aligned(length, sector))
    return fail(Errc::invalid_argument, range_text(disk_offset, length) +
                                            " are not whole sectors of " + std::to_string(sector) +
                                            " bytes");
  return {};
}

Result<void> Disk::check_change(uint64_t disk_offset, uint64_t length) const {
  if (geometry().read_only) return fail(Errc::read_only, "the disk is open for reading only");
  return check_transfer(disk_offset, length);
}

Async<void> Disk::read(uint64_t disk_offset, Buffers buffers) {
  auto checked = check_transfer(disk_offset, total_bytes(buffers));
  return checked ? do_read(disk_offset, buffers) : async::ready(std::move(checked));
}

Async<void> Disk::write(uint64_t disk_offset, Buffers buffers, Durability durability) {
  auto checked = check_change(disk_offset, total_bytes(buffers));
  return checked ? do_write(disk_offset, buffers, durability) : async::ready(std::move(checked));
}

Async<void> Disk::flush() {
  CO_TRY(check_change(0, 0));
  co_return co_await do_flush();
}

Async<void> Disk::zero(uint64_t disk_offset, uint64_t length) {
  CO_TRY(check_change(disk_offset, length));
  co_return co_await do_zero(disk_offset, length);
}

Async<void> Disk::extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  if (!range_fits(disk_offset, length, geometry().size_bytes))
    co_return fail(Errc::out_of_range, range_text(disk_offset, length) + " end outside the disk");
  co_return co_await do_extents(disk_offset, length, extents);
}

Async<void> Disk::read(uint64_t disk_offset, std::span<std::byte> buffer) {
  const iovec vector{buffer.data(), buffer.size()};
  const Buffers buffers(&vector, 1);
  co_return co_await read(disk_offset, buffers);
}

Async<void> Disk::write(uint64_t disk_offset, std::span<const std::byte> bytes) {
  // The kernel's vector has no const form; a write changes nothing.
  const iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const Buffers buffers(&vector, 1);
  co_return co_await write(disk_offset, buffers, Durability::cached);
}

}  // namespace vhdkit::disk
