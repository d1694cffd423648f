// A file or block device that is the disk, byte for byte.
#pragma once

#include <memory>

#include "disk/in_place_writer.h"
#include "disk/layer.h"

namespace vhdkit::disk {

class RawLayer final : public Layer {
 public:
  // A file whose size is no multiple of 512 bytes reads as zeroes up to the end of its last sector.
  // writable: the file is open for writing.
  explicit RawLayer(std::unique_ptr<File> file, bool writable = false);

  const Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) override;
  std::optional<Extent> peek(uint64_t disk_offset, uint64_t length) override;
  LayerWriter* writer() override { return writer_ ? &*writer_ : nullptr; }
  Async<void> audit() override;
  uint64_t block_size_bytes() const override { return 0; }
  Description describe() const override { return {}; }

 private:
  std::unique_ptr<File> file_;
  Geometry geometry_;
  std::optional<InPlaceWriter> writer_;
};

}  // namespace vhdkit::disk
