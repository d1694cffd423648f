// A VHDX image's blocks as a layer.
#pragma once

#include <optional>

#include "disk/block_writer.h"
#include "disk/file_space.h"
#include "disk/layer.h"
#include "vhdx/block_tables.h"
#include "vhdx/describe.h"
#include "vhdx/table_writer.h"

namespace vhdkit::vhdx {

class BlockLayer final : public disk::Layer {
 public:
  // file: after replay of its log.
  BlockLayer(std::unique_ptr<File> file, OpenedImage image, ImageLayout layout);

  // Takes stock of the file's space, so that the layer can be written. Once, before it is used.
  // REQUIRES: the file is open for writing, its log is empty, no copy of headers and region tables
  // is damaged. Errors: as audit(); unsupported (a log shorter than 1 MiB).
  Async<void> make_writable(bool keep_identity);
  // Cuts off what the file has behind its content; of a fixed disk room for the blocks that are not
  // there yet is content too. Instead of make_writable(), with the same requirements and errors.
  Async<void> cut_to_content();

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, disk::ExtentList& extents) override;
  std::optional<disk::Extent> peek(uint64_t disk_offset, uint64_t length) override;
  disk::LayerWriter* writer() override { return writer_.get(); }
  Async<void> audit() override;
  uint64_t block_size_bytes() const override { return layout_.bat.block_bytes; }
  disk::Description describe() const override { return vhdx::describe(image_); }
  const disk::ParentReference* parent() const override { return parent_ ? &*parent_ : nullptr; }
  std::optional<Guid> identity() const override { return image_.headers.current.data_write_guid; }

 private:
  // A part of one block.
  struct Part {
    uint64_t block;
    uint64_t disk_offset;
    uint64_t end;
  };

  Result<uint64_t> append_hole(uint64_t disk_offset, uint64_t end, disk::ExtentList& extents);
  // Adds the part's extents until there are `enough`; returns how far it came.
  uint64_t append_part(const Part& part, uint64_t entry, const Bits& bits, size_t enough,
                       disk::ExtentList& extents) const;
  uint64_t append_by_bits(const Part& part, uint64_t block_offset, const Bits& bits, size_t enough,
                          disk::ExtentList& extents) const;
  disk::Extent extent_of(const Part& part, uint64_t entry) const;
  std::optional<disk::Extent> peek_bits(const Part& part, uint64_t entry);
  Async<void> collect_places(BlockPlaces& places);
  UsedSpace take_stock(BlockPlaces& places) const;
  uint64_t room_end(uint64_t begin, uint64_t next) const;
  Async<bool> audit_entries(uint64_t index, uint64_t end, BlockPlaces& places);
  Result<void> check_apart(BlockPlaces& places) const;

  std::unique_ptr<File> file_;
  OpenedImage image_;
  ImageLayout layout_;
  disk::Geometry geometry_;
  disk::ExtentKind absent_kind_;  // what is not in this image
  std::optional<disk::ParentReference> parent_;
  BlockTables tables_;
  std::unique_ptr<disk::BlockWriter> writer_;
};

}  // namespace vhdkit::vhdx
