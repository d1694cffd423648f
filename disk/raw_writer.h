// A new raw image: every guest byte at its own offset.
#pragma once

#include "disk/bulk_writer.h"

namespace vhdkit::disk {

class RawWriter final : public BulkWriter {
 public:
  // The file is empty and outlives the writer. size_bytes: of the disk, and so of the file.
  RawWriter(File& file, uint64_t size_bytes);

  const Geometry& geometry() const override { return geometry_; }
  File& file() override { return file_; }
  uint64_t block_size_bytes() const override { return 0; }
  Result<uint64_t> place(uint64_t disk_offset, uint64_t length) override;
  Async<void> finish() override;
  uint64_t file_size_bytes() const override { return geometry_.size_bytes; }

 private:
  File& file_;
  Geometry geometry_;
};

}  // namespace vhdkit::disk
