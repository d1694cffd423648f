// A fixed disk as a layer: its bytes, then the footer.
#pragma once

#include "disk/in_place_writer.h"
#include "disk/layer.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

class FixedLayer final : public disk::Layer {
 public:
  // REQUIRES: the disk's bytes lie before the footer. writable: the file is open for writing.
  FixedLayer(std::unique_ptr<File> file, FoundFooter found, bool writable);

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, disk::ExtentList& extents) override;
  std::optional<disk::Extent> peek(uint64_t disk_offset, uint64_t length) override;
  disk::LayerWriter* writer() override { return writer_ ? &*writer_ : nullptr; }
  Async<void> audit() override { co_return Result<void>(); }
  uint64_t block_size_bytes() const override { return 0; }
  disk::Description describe() const override;
  std::optional<Guid> identity() const override { return found_.footer.unique_id; }
  std::optional<uint32_t> time_stamp() const override { return found_.footer.time_stamp; }

 private:
  std::unique_ptr<File> file_;
  FoundFooter found_;
  disk::Geometry geometry_;
  std::optional<disk::InPlaceWriter> writer_;
};

}  // namespace vhdkit::libvhd
