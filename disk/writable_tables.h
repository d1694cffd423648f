// What the block writer asks of a format's tables.
#pragma once

#include <optional>
#include <vector>

#include "disk/table_pieces.h"

namespace vhdkit::disk {

enum class BlockState : uint8_t {
  absent,     // the parent's bytes, zeroes where there is none
  zero,       // zeroes, whatever the parent has
  undefined,  // zeroes too, but other programs may find old content there
  whole,      // all its sectors are here
  partial,    // the sectors whose bits are set are here, the others as in an absent block
};

struct Block {
  BlockState state;
  uint64_t file_offset = 0;  // of its first byte; whole and partial only

  bool has_place() const { return state == BlockState::whole || state == BlockState::partial; }
};

struct BlockShape {
  uint64_t disk_bytes = 0;
  uint64_t block_bytes = 0;
  uint32_t sector_bytes = 512;  // what a bit stands for
  bool has_parent = false;
  bool knows_zero = false;    // BlockState::zero can be stored
  bool keeps_places = false;  // of a fixed disk, whose blocks are never given back
};

// Loop-bound. Changes are made in memory, between two awaits; commit() takes them to the file.
// Errors of the asynchronous members: io, no_space, corrupt.
class WritableTables {
 public:
  using Held = std::vector<TablePieces::Handle>;

  WritableTables() = default;
  WritableTables(const WritableTables&) = delete;
  WritableTables& operator=(const WritableTables&) = delete;
  virtual ~WritableTables() = default;

  virtual const BlockShape& shape() const = 0;

  // Before the first change of the file: what the format wants to be known of it. No commit runs
  // meanwhile.
  virtual Async<void> begin() = 0;

  // Brings to memory what a change of the block touches, and holds it there. in_part: also what it
  // takes to make an absent block partial.
  virtual Async<Held> hold(uint64_t block, bool in_part) = 0;
  // Nothing where the tables are not in memory.
  virtual std::optional<Block> find(uint64_t block) = 0;
  // How many bytes from disk_offset on, up to length, are here in a partial block; 0 where the
  // first is not, or where the bits are not in memory.
  virtual uint64_t present_bytes(uint64_t disk_offset, uint64_t length) = 0;

  // The three below REQUIRE that the block is held.
  virtual void set(uint64_t block, Block value) = 0;
  // A partial block that has none of its sectors yet. REQUIRES: it is held in part.
  virtual void set_empty(uint64_t block, uint64_t file_offset) = 0;
  // Sectors of a partial block that are here from now on.
  virtual void set_present(uint64_t disk_offset, uint64_t length) = 0;

  // Whether one more block can change before the next commit.
  virtual bool has_room_for_change() const = 0;

  // Space for a block, which reads as zeroes; its first byte's file offset.
  // REQUIRES: one is taken at a time.
  virtual Async<uint64_t> take_place() = 0;
  // What a block's place takes of the file, with what belongs to it.
  virtual async::FileRange range_of_place(uint64_t file_offset) const = 0;
  // REQUIRES: it reads as zeroes, and nothing on the disk names it.
  virtual void give_back(uint64_t file_offset) = 0;

  // Makes payload that is in the file durable, then the changes so far, all or none of a block's.
  virtual Async<void> commit() = 0;
  virtual Async<void> close() = 0;

  // What a flush outside of begin() and commit() failed with. It ends all writing, as theirs do.
  virtual std::optional<Error> flush_error() const { return std::nullopt; }
};

}  // namespace vhdkit::disk
