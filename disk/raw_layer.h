// A file or block device that is the disk, byte for byte.
#pragma once

#include <memory>

#include "disk/layer.h"

namespace vhdkit::disk {

class RawLayer final : public Layer {
 public:
  // A file whose size is no multiple of 512 bytes reads as zeroes up to the end of its last sector.
  explicit RawLayer(std::unique_ptr<File> file);

  const Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) override;
  Async<void> audit() override;
  uint64_t block_size_bytes() const override { return 0; }
  Description describe() const override { return {}; }

 private:
  std::unique_ptr<File> file_;
  Geometry geometry_;
};

}  // namespace vhdkit::disk
