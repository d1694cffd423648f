// A VHDX image's blocks as a layer.
#pragma once

#include <optional>

#include "disk/layer.h"
#include "disk/recent_pieces.h"
#include "vhdx/block_places.h"
#include "vhdx/describe.h"

namespace vhdkit::vhdx {

class BlockLayer final : public disk::Layer {
 public:
  // file: after replay of its log.
  BlockLayer(std::unique_ptr<File> file, OpenedImage image, ImageLayout layout);

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, disk::ExtentList& extents) override;
  Async<void> audit() override;
  uint64_t block_size_bytes() const override { return layout_.bat.block_bytes; }
  disk::Description describe() const override { return vhdx::describe(image_); }
  const disk::ParentReference* parent() const override { return parent_ ? &*parent_ : nullptr; }
  std::optional<Guid> identity() const override { return image_.headers.current.data_write_guid; }

 private:
  // Consecutive BAT entries.
  struct Entries {
    disk::RecentPieces::Piece bytes;
    uint64_t first_index = 0;

    bool have(uint64_t index) const;
    uint64_t at(uint64_t index) const;  // REQUIRES: have(index)
  };
  // Consecutive bits of one chunk's sector bitmap.
  struct Bits {
    disk::RecentPieces::Piece bytes;
    uint64_t first_sector = 0;  // of the disk

    bool have(uint64_t sector) const;
  };
  // A part of one block.
  struct Part {
    uint64_t block;
    uint64_t disk_offset;
    uint64_t end;
  };

  Async<Entries> entries_at(uint64_t index);
  Result<uint64_t> append_hole(uint64_t disk_offset, uint64_t end, disk::ExtentList& extents) const;
  Async<Bits> bits_at(uint64_t disk_offset);
  // Adds the part's extents until there are `enough`; returns how far it came.
  uint64_t append_part(const Part& part, uint64_t entry, const Bits& bits, size_t enough,
                       disk::ExtentList& extents) const;
  uint64_t append_by_bits(const Part& part, uint64_t block_offset, const Bits& bits, size_t enough,
                          disk::ExtentList& extents) const;
  Result<void> check_entry(uint64_t index, uint64_t entry) const;
  Async<bool> audit_entries(uint64_t index, uint64_t end, BlockPlaces& places);
  Result<void> check_apart(BlockPlaces& places) const;

  std::unique_ptr<File> file_;
  OpenedImage image_;
  ImageLayout layout_;
  disk::Geometry geometry_;
  disk::ExtentKind absent_kind_;  // what is not in this image
  std::optional<disk::ParentReference> parent_;
  disk::RecentPieces bat_pieces_;
  disk::RecentPieces bitmap_pieces_;
};

}  // namespace vhdkit::vhdx
