// A virtual disk: what the tools, the FUSE mount and the SCSI target read and write.
#pragma once

#include "async/file.h"
#include "disk/extent.h"
#include "disk/geometry.h"

namespace vhdkit::disk {

// The public members check range, alignment and write permission, then call their do_ twin, so no
// implementation checks again. Loop-bound.
//
// disk_offset, length: bytes, multiples of logical_sector_bytes, inside the disk, else
// Errc::out_of_range or invalid_argument. Buffers may have any alignment. All or nothing for the
// caller: a short transfer is an error. No atomicity beyond one physical sector; overlapping writes
// in flight have no order.
class Disk {
 public:
  Disk() = default;
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;
  virtual ~Disk() = default;

  virtual const Geometry& geometry() const = 0;

  Async<void> read(uint64_t disk_offset, Buffers buffers);
  // durable: with a flush() behind it, which can fail as that does. A write that failed before may
  // be tried again.
  Async<void> write(uint64_t disk_offset, Buffers buffers, Durability durability);
  // Covers the writes that completed before this call.
  Async<void> flush();
  // The range reads as zeroes afterwards; space may be given back.
  Async<void> zero(uint64_t disk_offset, uint64_t length);

  // Appends what the range holds: data, zero or encoded extents that tile it, neighbours merged.
  // May stop early: the caller goes on from where the last extent ends. Any alignment.
  Async<void> extents(uint64_t disk_offset, uint64_t length, ExtentList& extents);

  // One buffer.
  Async<void> read(uint64_t disk_offset, std::span<std::byte> buffer);
  Async<void> write(uint64_t disk_offset, std::span<const std::byte> bytes);

 private:
  virtual Async<void> do_read(uint64_t disk_offset, Buffers buffers) = 0;
  virtual Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) = 0;
  virtual Async<void> do_flush() = 0;
  virtual Async<void> do_zero(uint64_t disk_offset, uint64_t length) = 0;
  virtual Async<void> do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) = 0;

  Result<void> check_transfer(uint64_t disk_offset, uint64_t length) const;
  Result<void> check_change(uint64_t disk_offset, uint64_t length) const;
};

}  // namespace vhdkit::disk
