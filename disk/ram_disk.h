// A disk in memory: for tests, benchmarks and scratch.
#pragma once

#include "async/memory_file.h"
#include "disk/disk.h"

namespace vhdkit::disk {

class RamDisk final : public Disk {
 public:
  // REQUIRES: size_bytes is a multiple of the logical sector size. The disk is writable and reads
  // as zeroes.
  explicit RamDisk(Geometry geometry);

  const Geometry& geometry() const override { return geometry_; }

 private:
  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override;
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) override;
  Async<void> do_flush() override;
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override;
  Async<void> do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) override;

  Geometry geometry_;
  async::MemoryFile content_;
};

}  // namespace vhdkit::disk
