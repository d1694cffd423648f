// A new dynamic or differencing disk.
#pragma once

#include <optional>
#include <vector>

#include "disk/bulk_writer.h"
#include "libvhd/create.h"
#include "libvhd/dynamic_header.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

// Lays out: copy of the footer, header, BAT, parent locators' data, blocks, footer. Each block's
// data begins on a multiple of 4 KiB with its sector bitmap right before it, so blocks are one
// stride apart; the footer stands where the next block would.
class DynamicWriter final : public disk::BulkWriter {
 public:
  // REQUIRES: what create() checks.
  DynamicWriter(File& file, const HardDiskFooter& footer, uint32_t block_size_bytes,
                const std::optional<ParentLink>& parent);

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return file_; }
  uint64_t block_size_bytes() const override { return header_.block_size_bytes; }
  Result<uint64_t> place(uint64_t disk_offset, uint64_t length) override;
  Async<void> finish() override;
  uint64_t file_size_bytes() const override { return footer_offset() + sizeof(Footer); }

 private:
  struct LocatorData {
    uint64_t file_offset;
    std::vector<std::byte> bytes;
  };
  void add_parent(const ParentLink& parent);
  void add_locator(uint32_t platform_code, const std::string& path);
  uint64_t data_offset(uint64_t place_index) const { return first_data_ + place_index * stride_; }
  uint64_t footer_offset() const;
  Async<void> write_table();
  Async<void> write_bitmaps();

  File& file_;
  HardDiskFooter footer_;
  DynamicDiskHeader header_;
  disk::Geometry geometry_;
  std::vector<LocatorData> locators_;
  std::vector<uint32_t> places_;  // by block: its index in the order of the file, or no_place
  uint64_t placed_count_ = 0;
  uint64_t metadata_end_ = 0;  // where the first block may begin
  uint64_t bitmap_bytes_;
  uint64_t first_data_;
  uint64_t stride_;
};

}  // namespace vhdkit::libvhd
