// Changes of an image that is made of blocks, whatever its format: where new bytes go, which space
// is free again, and in which order things reach the file.
#pragma once

#include <map>
#include <memory>

#include "async/mutex.h"
#include "disk/layer_writer.h"
#include "disk/writable_tables.h"

namespace vhdkit::disk {

// Loop-bound.
//
// A block's place goes through these hands: free space, reserved for the writes that are under way
// into an absent block, named by the tables, given up, free again. It is given up when the tables
// in memory name it no more, and becomes free when that is durable, when nobody in flight can
// still use it, and when it reads as zeroes.
class BlockWriter final : public LayerWriter {
 public:
  // The file outlives it.
  BlockWriter(File& file, std::unique_ptr<WritableTables> tables);

  std::optional<async::FileRange> in_place(uint64_t disk_offset, uint64_t length) override;
  Async<WritePlace> prepare(uint64_t disk_offset, uint64_t length) override;
  Async<bool> finish(WritePlace place, bool written) override;
  Async<void> zero(uint64_t disk_offset, uint64_t length) override;
  Async<void> flush() override;
  Async<void> close() override;

 private:
  // A place that no table names yet.
  struct Reserved {
    uint64_t file_offset;
    size_t user_count = 0;
    bool was_named = false;  // by a table: it is no more to be given back
  };
  struct GivenUp {
    uint64_t file_offset;
    InFlight::Moment moment;
  };

  const BlockShape& shape() const { return tables_->shape(); }
  uint64_t end_of_block(uint64_t block) const;
  bool is_zero(const Block& block) const;
  Async<void> begin();
  Async<uint64_t> place_of(uint64_t block);
  bool lacks_place(uint64_t block) const;
  uint64_t use_place(uint64_t block);
  bool covers_block(const WritePlace& place) const;
  Async<void> hold_for_change(uint64_t block, bool in_part, WritableTables::Held& held);
  void publish(const WritePlace& place);
  void publish_new(const WritePlace& place, Reserved& reserved, const Block& now);
  void spoil(const WritePlace& place);
  Async<void> leave(const WritePlace& place);
  Async<bool> zero_part(uint64_t disk_offset, uint64_t length);
  Async<void> zero_block(uint64_t block);
  Async<void> define(uint64_t block);
  Async<void> commit();
  Async<void> reclaim();
  Async<void> make_free(uint64_t file_offset);

  File& file_;
  std::unique_ptr<WritableTables> tables_;
  std::map<uint64_t, Reserved> reserved_;  // by block
  // Places that were reserved until a write there failed, with how many writes still go there.
  std::map<uint64_t, size_t> spoiled_;
  std::vector<GivenUp> given_up_;     // since the last commit began
  std::vector<GivenUp> reclaimable_;  // durably nobody's
  bool has_begun_ = false;
  async::Mutex beginning_;
  async::Mutex taking_;  // places: one for each block
  async::Mutex committing_;
  uint64_t begun_commits_ = 0;
};

}  // namespace vhdkit::disk
