// What a format gives to the payload engine for changes: where new bytes go, and how its tables
// follow them.
#pragma once

#include <optional>
#include <vector>

#include "disk/in_flight.h"
#include "disk/table_pieces.h"

namespace vhdkit::disk {

// Where the bytes of a write go.
struct WritePlace {
  uint64_t disk_offset;
  uint64_t length;  // bytes
  uint64_t file_offset;
  // Of the writer that made it.
  uint64_t block;
  uint64_t block_offset;  // file offset of the block's first byte
  std::vector<TablePieces::Handle> held;
};

// A layer's writing half; lives as long as the layer. Loop-bound.
//
// The promise: after a crash at any moment every sector holds what a completed flush covered or
// something written later, and else its old or its new content. So bytes go to their place first;
// finish() notes the change of the tables in memory; flush() makes payload durable, then the
// tables' changes. Ranges are bytes inside the disk, whole logical sectors.
//
// Any failed write of a table or failed flush poisons the writer: this and all later changes fail
// with that error, and in_place() says nothing. What was flushed before stays.
class LayerWriter {
 public:
  LayerWriter() = default;
  LayerWriter(const LayerWriter&) = delete;
  LayerWriter& operator=(const LayerWriter&) = delete;
  virtual ~LayerWriter() = default;

  // Where the first bytes of the range lie, if they may be overwritten there without any change of
  // a table, and this is known at once. Nothing: ask prepare().
  virtual std::optional<async::FileRange> in_place(uint64_t disk_offset, uint64_t length) = 0;

  // A place for the range, which lies in one block, kept for the caller until finish().
  // Errors: no_space, io, corrupt; what poisoned the writer.
  virtual Async<WritePlace> prepare(uint64_t disk_offset, uint64_t length) = 0;
  // Called once for each place. written: the bytes are at their place, so the disk shows them from
  // now on, and the answer is true. False: a write beside it spoiled the place; the bytes must be
  // written again, to another one. Where nothing was written the disk shows what it showed before.
  virtual Async<bool> finish(WritePlace place, bool written) = 0;

  // The range reads as zeroes; blocks that it covers are given back, if the format can.
  virtual Async<void> zero(uint64_t disk_offset, uint64_t length) = 0;

  // Everything that completed before this call is durable. Calls at one time share the work; one
  // beside which the writer was poisoned fails. Nobody else flushes the layer's file, or writes to
  // it durably: who does takes away the one report of bytes that are lost.
  virtual Async<void> flush() = 0;

  // Flushes, marks the image as cleanly closed and cuts off what the file has too much. Nothing
  // else is called afterwards. REQUIRES: no request is in flight.
  virtual Async<void> close() = 0;

  // Whoever reads or writes places of this layer's file enters before asking where they are.
  InFlight& in_flight() { return in_flight_; }

 protected:
  // The first error stays.
  void poison(const Error& error) {
    if (!poison_) poison_ = error;
  }
  // Errors: what poisoned the writer.
  Result<void> usable() const {
    if (poison_) return std::unexpected(*poison_);
    return {};
  }

 private:
  InFlight in_flight_;
  std::optional<Error> poison_;
};

}  // namespace vhdkit::disk
