// A disk in memory that answers at once, for several threads: transfers at the same time are
// allowed as long as their bytes differ.
#pragma once

#include <cstring>
#include <vector>

#include "disk/disk.h"

namespace vhdkit::tests {

class SharedMemoryDisk final : public disk::Disk {
 public:
  explicit SharedMemoryDisk(uint64_t size_bytes)
      : content_(size_bytes), geometry_{.size_bytes = size_bytes, .read_only = false} {}
  const disk::Geometry& geometry() const override { return geometry_; }

 private:
  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override {
    for (const iovec& part : buffers) {
      std::memcpy(part.iov_base, content_.data() + disk_offset, part.iov_len);
      disk_offset += part.iov_len;
    }
    co_return Result<void>();
  }
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability) override {
    for (const iovec& part : buffers) {
      std::memcpy(content_.data() + disk_offset, part.iov_base, part.iov_len);
      disk_offset += part.iov_len;
    }
    co_return Result<void>();
  }
  Async<void> do_flush() override { co_return Result<void>(); }
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override {
    std::memset(content_.data() + disk_offset, 0, length);
    co_return Result<void>();
  }
  Async<void> do_extents(uint64_t disk_offset, uint64_t length,
                         disk::ExtentList& extents) override {
    extents.append({.disk_offset = disk_offset, .length = length, .kind = disk::ExtentKind::data});
    co_return Result<void>();
  }

  std::vector<std::byte> content_;
  disk::Geometry geometry_;
};

}  // namespace vhdkit::tests
