// A disk of one byte, over and over, that forgets what is written.
#pragma once

#include <cstring>

#include "disk/disk.h"

namespace vhdkit::tests {

class FilledDisk : public disk::Disk {
 public:
  FilledDisk(uint64_t size_bytes, std::byte value)
      : geometry_{.size_bytes = size_bytes, .read_only = false}, value_(value) {}
  const disk::Geometry& geometry() const override { return geometry_; }

 protected:
  Async<void> do_read(uint64_t, Buffers buffers) override {
    for (const iovec& part : buffers) std::memset(part.iov_base, int(value_), part.iov_len);
    co_return Result<void>();
  }

 private:
  Async<void> do_write(uint64_t, Buffers, Durability) override { co_return Result<void>(); }
  Async<void> do_flush() override { co_return Result<void>(); }
  Async<void> do_zero(uint64_t, uint64_t) override { co_return Result<void>(); }
  Async<void> do_extents(uint64_t disk_offset, uint64_t length,
                         disk::ExtentList& extents) override {
    extents.append({.disk_offset = disk_offset, .length = length, .kind = disk::ExtentKind::data});
    co_return Result<void>();
  }

  disk::Geometry geometry_;
  std::byte value_;
};

}  // namespace vhdkit::tests
