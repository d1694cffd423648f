// The BAT, the sector bitmaps and the footer of an image that is open for writing.
#pragma once

#include "disk/file_space.h"
#include "disk/flusher.h"
#include "disk/writable_tables.h"
#include "libvhd/block_tables.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

// What of the file is in use when an image is opened for writing.
struct UsedSpace {
  disk::FileSpace space;
  std::optional<async::FileRange> last_block;  // what the disk's last block has, with its bitmap
};
// Blocks behind the disk's end are in use, too (used_beyond_disk()). places: of all the disk's
// blocks, apart from each other. Errors: io.
Async<UsedSpace> take_stock(File& file, const BlockLayout& layout, BlockPlaces& places);

// Loop-bound. VHD has no log; the order of the writes does what a log would do:
//
//   commit   flush (payload, and the zeroes of new places), the changed sectors of BAT and bitmaps,
//            flush. Each sector is old or new after a crash, and any mixture reads right: a block
//            without its bitmap holds nothing yet, a bitmap without its block is nobody's.
//   growth   a footer at the new end, flush; then blocks may lie where the old one was. The copy at
//            offset 0 is there all the time.
//   close    flush, the footer right behind the content, flush, the file cut there
class TableWriter final : public disk::WritableTables {
 public:
  // All outlive it; layout.content_end follows the footer.
  struct Image {
    File& file;
    const FoundFooter& footer;
    BlockLayout& layout;
    disk::TablePieces& pieces;
    bool has_parent;
  };
  TableWriter(const Image& image, UsedSpace use);

  const disk::BlockShape& shape() const override { return shape_; }
  // The copy at offset 0 is what counts while the footer moves, so it must say the same.
  Async<void> begin() override;
  Async<Held> hold(uint64_t block, bool in_part) override;
  std::optional<disk::Block> find(uint64_t block) override;
  uint64_t present_bytes(uint64_t disk_offset, uint64_t length) override;
  void set(uint64_t block, disk::Block value) override;
  void set_empty(uint64_t block, uint64_t file_offset) override;
  void set_present(uint64_t disk_offset, uint64_t length) override;
  bool has_room_for_change() const override;
  Async<uint64_t> take_place() override;
  async::FileRange range_of_place(uint64_t file_offset) const override;
  void give_back(uint64_t file_offset) override;
  Async<void> commit() override;
  Async<void> close() override;
  std::optional<Error> flush_error() const override { return flusher_.error(); }

 private:
  uint64_t place_bytes() const { return layout_.bitmap_bytes() + layout_.block_bytes; }
  void put_entry(uint64_t block, uint32_t entry);
  Async<void> make_room(uint64_t end);
  Async<void> write_footer(uint64_t file_offset);

  File& file_;
  disk::Flusher flusher_;
  Footer footer_;
  bool copy_differs_;
  BlockLayout& layout_;
  disk::TablePieces& pieces_;
  disk::BlockShape shape_;
  disk::FileSpace space_;
  std::optional<async::FileRange> last_block_;
  uint64_t opened_bytes_;  // where the content ended then: below it, unused space may hold anything
};

// Whether the BAT can be changed in sectors. Errors: corrupt.
Result<void> check_tables_can_change(const File& file, const BlockLayout& layout);

}  // namespace vhdkit::libvhd
