// A disk as a file's bytes: any offset, any length.
#pragma once

#include <list>
#include <vector>

#include "disk/disk.h"

namespace vhdkit::fuse {

// Loop-bound. What does not fall on the disk's logical sectors is read in whole sectors, changed
// and written back; nothing else that is written to these sectors meanwhile gets lost.
class ByteDisk {
 public:
  // The disk outlives it.
  explicit ByteDisk(disk::Disk& disk) : disk_(disk) {}

  uint64_t size_bytes() const { return disk_.geometry().size_bytes; }
  uint32_t sector_bytes() const { return disk_.geometry().logical_sector_bytes; }
  bool is_read_only() const { return disk_.geometry().read_only; }

  // disk_offset, length: bytes, inside the disk. Errors: as disk::Disk.
  Async<void> read(uint64_t disk_offset, std::span<std::byte> buffer);
  Async<void> write(uint64_t disk_offset, std::span<const std::byte> bytes, Durability durability);
  Async<void> zero(uint64_t disk_offset, uint64_t length);
  Async<void> flush() { return disk_.flush(); }

  // The first byte at or after disk_offset that is data (or else not data), at most `end`.
  Async<uint64_t> find(uint64_t disk_offset, uint64_t end, bool data);

 private:
  // A write on its way. One that changes parts of sectors has these sectors for itself.
  struct Change {
    uint64_t begin;  // of whole sectors
    uint64_t end;
    bool is_partial;
  };
  using Changes = std::list<Change>;
  class Turn;

  bool must_wait(const Change& change) const;
  Async<Turn> enter(uint64_t disk_offset, uint64_t length);
  Async<void> write_partly(uint64_t disk_offset, std::span<const std::byte> bytes,
                           Durability durability);

  disk::Disk& disk_;
  Changes changes_;
  std::vector<std::coroutine_handle<>> waiters_;  // for any change to end
};

}  // namespace vhdkit::fuse
