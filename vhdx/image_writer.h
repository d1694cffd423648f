// A new VHDX image of any type.
#pragma once

#include "disk/bulk_writer.h"
#include "vhdx/bat.h"
#include "vhdx/block_order.h"
#include "vhdx/headers.h"
#include "vhdx/metadata.h"

namespace vhdkit::vhdx {

// Lays out: header section, log, metadata region, BAT region, payload blocks. Everything begins on
// a multiple of 1 MiB; sector bitmap blocks are never needed, since a block is whole or not there.
class ImageWriter final : public disk::BulkWriter {
 public:
  // metadata: as create() checks it. A fixed image has a place for every block.
  ImageWriter(File& file, Metadata metadata, const Guid& data_write_guid);

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return file_; }
  uint64_t block_size_bytes() const override;
  Result<uint64_t> place(uint64_t disk_offset, uint64_t length) override;
  Async<void> finish() override;
  uint64_t file_size_bytes() const override;

 private:
  bool is_fixed() const { return metadata_.leave_blocks_allocated; }
  // Where the payload block of this place begins.
  uint64_t block_offset(uint64_t place) const;
  Async<void> write_header_section();
  Async<void> write_metadata();
  Async<void> write_bat();
  // The entries from first_index on, not more than are written at once.
  std::vector<le64> bat_piece(uint64_t first_index) const;

  File& file_;
  Metadata metadata_;
  Guid data_write_guid_;
  disk::Geometry geometry_;
  BatLayout bat_;
  BlockOrder order_;
  uint64_t bat_region_bytes_;
};

}  // namespace vhdkit::vhdx
