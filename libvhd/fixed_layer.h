// A fixed disk as a layer: its bytes, then the footer.
#pragma once

#include "disk/layer.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

class FixedLayer final : public disk::Layer {
 public:
  // REQUIRES: the disk's bytes lie before the footer.
  FixedLayer(std::unique_ptr<File> file, FoundFooter found);

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, disk::ExtentList& extents) override;
  Async<void> audit() override { co_return Result<void>(); }
  uint64_t block_size_bytes() const override { return 0; }
  disk::Description describe() const override;
  std::optional<Guid> identity() const override { return found_.footer.unique_id; }
  std::optional<uint32_t> time_stamp() const override { return found_.footer.time_stamp; }

 private:
  std::unique_ptr<File> file_;
  FoundFooter found_;
  disk::Geometry geometry_;
};

}  // namespace vhdkit::libvhd
