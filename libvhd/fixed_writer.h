// A new fixed disk: its bytes, then the footer.
#pragma once

#include "disk/bulk_writer.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

class FixedWriter final : public disk::BulkWriter {
 public:
  FixedWriter(File& file, const HardDiskFooter& footer);

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return file_; }
  uint64_t block_size_bytes() const override { return 0; }
  Result<uint64_t> place(uint64_t disk_offset, uint64_t length) override;
  Async<void> finish() override;
  uint64_t file_size_bytes() const override { return geometry_.size_bytes + sizeof(Footer); }

 private:
  File& file_;
  HardDiskFooter footer_;
  disk::Geometry geometry_;
};

}  // namespace vhdkit::libvhd
