// The BAT, the sector bitmaps and the log of an image that is open for writing.
#pragma once

#include <map>
#include <memory>

#include "async/mutex.h"
#include "disk/file_space.h"
#include "disk/writable_tables.h"
#include "vhdx/block_tables.h"
#include "vhdx/headers.h"
#include "vhdx/log_writer.h"

namespace vhdkit::vhdx {

// What of the file is in use when an image is opened for writing.
struct UsedSpace {
  disk::FileSpace space;
  std::optional<async::FileRange> last_block;  // what the disk's last block has, if it has a place
  bool has_kept_places = false;                // undefined or unmapped blocks have some
};

// Loop-bound. One session of writing, [MS-VHDX] 2.2.2 and 2.3:
//
//   begin    both headers get a new FileWriteGuid and DataWriteGuid; the log is still empty. The
//            file ends on a whole MiB from now on. Undefined and unmapped blocks that keep a place
//            give it up, with a commit.
//   commit   flush (payload, and what the last commit put in its place), the changed pages as one
//            log entry, flush; then the pages in their places, durable with the next commit.
//            After the first entry the headers name the log.
//   close    flush, both headers without log, the file cut to its content; a fixed disk's no
//            shorter than it was
class TableWriter final : public disk::WritableTables {
 public:
  // All outlive it; layout.file_bytes follows the file's growth. The log is empty, and has at
  // least 1 MiB.
  struct Image {
    File& file;
    FoundHeaders& headers;
    ImageLayout& layout;
    BlockTables& tables;
    bool keeps_places;   // of a fixed disk
    bool keep_identity;  // the DataWriteGuid stays
  };
  TableWriter(const Image& image, UsedSpace use);

  const disk::BlockShape& shape() const override { return shape_; }
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

 private:
  bool has_changes() const { return tables_.pieces().changed_page_count() > 0; }
  Async<void> give_up_kept_places();
  Async<uint64_t> take(uint64_t length);
  Async<uint64_t> bitmap_offset(uint64_t chunk);
  std::optional<uint64_t> find_bitmap_offset(uint64_t chunk);
  void put_entry(uint64_t index, uint64_t entry);
  void change_bits(uint64_t disk_offset, uint64_t length, bool here);
  Async<void> put_in_place(std::span<const disk::ChangedPage> pages);

  File& file_;
  FoundHeaders& headers_;
  ImageLayout& layout_;
  BlockTables& tables_;
  disk::BlockShape shape_;
  bool keep_identity_;
  bool has_kept_places_;
  disk::FileSpace space_;
  uint64_t opened_bytes_;  // the file's size then: what nothing uses below it may hold anything
  std::optional<async::FileRange> last_block_;
  // Places of sector bitmap blocks that the BAT does not name yet, by chunk. One is taken when a
  // block is about to become partial, one at a time, and named when a block of the chunk becomes
  // so. Where none does after all, since the block became whole meanwhile or its place was spoiled,
  // it waits for the next, or for close(), which gives it back.
  std::map<uint64_t, uint64_t> new_bitmaps_;
  async::Mutex taking_bitmap_;
  LogWriter log_;
};

}  // namespace vhdkit::vhdx
