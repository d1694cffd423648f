// A dynamic or differencing disk as a layer.
#pragma once

#include <optional>
#include <vector>

#include "disk/block_writer.h"
#include "disk/layer.h"
#include "disk/table_pieces.h"
#include "libvhd/block_layout.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

// Everything that was read when the image was opened.
struct DynamicImage {
  FoundFooter found;
  DynamicDiskHeader header;
  std::vector<LocatedParent> located;  // differencing only
};

class DynamicLayer final : public disk::Layer {
 public:
  DynamicLayer(std::unique_ptr<File> file, DynamicImage image);

  // Takes stock of the file's space, so that the layer can be written. Once, before it is used.
  // REQUIRES: the file is open for writing, both footers are whole. Errors: as audit(); corrupt
  // (a BAT shorter than the disk, or one that begins within a sector).
  Async<void> make_writable();

  const disk::Geometry& geometry() const override { return geometry_; }
  File& file() override { return *file_; }
  Async<void> resolve(uint64_t disk_offset, uint64_t length, disk::ExtentList& extents) override;
  std::optional<disk::Extent> peek(uint64_t disk_offset, uint64_t length) override;
  disk::LayerWriter* writer() override { return writer_.get(); }
  Async<void> audit() override;
  uint64_t block_size_bytes() const override { return layout_.block_bytes; }
  disk::Description describe() const override;
  const disk::ParentReference* parent() const override { return parent_ ? &*parent_ : nullptr; }
  std::optional<Guid> identity() const override { return image_.found.footer.unique_id; }
  std::optional<uint32_t> time_stamp() const override { return image_.found.footer.time_stamp; }

 private:
  // Consecutive entries of the BAT.
  struct TablePart {
    uint64_t first_index = 0;
    disk::TablePieces::Handle entries = {};

    uint64_t end_index = 0;

    uint32_t entry(uint64_t block_index) const {
      return *load<be32>(entries->bytes, (block_index - first_index) * sizeof(be32));
    }
  };
  // An allocated block.
  struct Block {
    uint64_t index;
    uint32_t entry;
    disk::TablePieces::Handle bitmap = {};
  };
  struct Range {
    uint64_t disk_offset;
    uint64_t end;
  };
  Async<TablePart> table_part(uint64_t block_index);
  uint64_t skip_unused(const TablePart& part, Range range, disk::ExtentList& extents) const;
  Result<void> collect_run(const TablePart& part, Range range, std::vector<Block>& run) const;
  Async<void> read_bitmaps(std::vector<Block>& run);
  Async<void> read_bitmap(Block& block);
  uint64_t resolve_block(const Block& block, Range range, disk::ExtentList& extents,
                         size_t enough) const;
  Result<void> check_entry(uint64_t block_index, uint32_t entry) const;
  Async<void> collect_places(BlockPlaces& places);
  Result<void> check_apart(BlockPlaces& places) const;

  std::unique_ptr<File> file_;
  DynamicImage image_;
  disk::Geometry geometry_;
  BlockLayout layout_;
  disk::ExtentKind clear_kind_;  // what a clear bit and an unused entry mean
  std::optional<disk::ParentReference> parent_;
  disk::TablePieces pieces_;
  std::unique_ptr<disk::BlockWriter> writer_;
};

}  // namespace vhdkit::libvhd
