// A disk's content in guest order: parts that say where the bytes are, and chunks that hold them.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "async/task_group.h"
#include "disk/layered_disk.h"

namespace vhdkit::image {

// A piece of the disk.
struct Part {
  disk::Extent extent;  // data, zero or encoded; its depth says which layer's file
  bool at_end = false;  // nothing is left; extent is empty
};

// Takes the front off an extent: at most max_bytes of it unless it is zero, up to a multiple of
// max_bytes, so that it lies in one block of a target whose block size is a multiple of them.
disk::Extent take_front(disk::Extent& extent, uint64_t max_bytes);

// Gives the parts of a disk in guest order. Loop-bound.
class PartSource {
 public:
  virtual ~PartSource() = default;
  // The next part, as take_front() cuts it.
  virtual Async<Part> next(uint64_t max_bytes) = 0;
};

// Walks a disk from its first to its last byte, and takes out the holes that the file system knows
// inside allocated blocks. Loop-bound; the disk outlives it.
class ContentCursor final : public PartSource {
 public:
  explicit ContentCursor(disk::LayeredDisk& disk) : disk_(disk), known_(disk.layer_count()) {}

  // The parts tile the disk. Errors: corrupt, io.
  Async<Part> next(uint64_t max_bytes) override;

 private:
  // What the file system said last of a layer's file: a hole, which may be empty, then data. File
  // offsets.
  struct KnownRange {
    uint64_t hole_start = 0;
    uint64_t data_start = 0;
    uint64_t data_end = 0;
  };

  Async<void> begin_extent();
  Result<void> cut_at_hole(disk::Extent& extent);

  disk::LayeredDisk& disk_;
  disk::ExtentList extents_;
  size_t next_index_ = 0;  // of the extent behind rest_
  disk::Extent rest_{.disk_offset = 0, .length = 0, .kind = disk::ExtentKind::zero};
  // By depth. Blocks that lie one after another in the file ask the file system once.
  std::vector<KnownRange> known_;
};

// Bytes of the disk, read.
struct Chunk {
  uint64_t disk_offset = 0;
  uint64_t length = 0;         // bytes; 0: the disk has ended
  std::span<std::byte> bytes;  // empty: the chunk is zero and was not read
  // Whatever still needs the bytes runs in here: they stay until it has ended. Null for zero
  // chunks.
  async::TaskGroup* users = nullptr;
};

// Reads parts with several requests in flight. Loop-bound; the disk and the source outlive it.
//
// REQUIRES: close() was awaited before destruction, whatever next() returned.
class ReadAhead {
 public:
  struct Options {
    uint64_t chunk_bytes = 1 << 20;  // power of two
    // Reads in flight, at least 1; as many buffers again serve the chunks in use.
    unsigned request_count = 8;
  };
  ReadAhead(disk::LayeredDisk& disk, PartSource& parts, Options options);

  // One chunk for each part, in order. A chunk's bytes stay for request_count further calls at
  // least. Errors: as the source; io; the first one of a user of an earlier chunk, as soon as its
  // buffer is needed again.
  Async<Chunk> next();
  // Waits for everything in flight, users included, and gives the first error that any of it had.
  Async<void> close();

 private:
  struct Buffer {
    std::unique_ptr<std::byte[]> memory;
    async::TaskGroup io;
  };

  Async<void> top_up();
  Async<void> fetch(disk::Extent extent, std::span<std::byte> bytes);

  disk::LayeredDisk& disk_;
  PartSource& parts_;
  Options options_;
  std::vector<Buffer> buffers_;
  size_t next_buffer_ = 0;
  std::deque<Chunk> pending_;
  size_t reads_pending_ = 0;
  bool at_end_ = false;
};

}  // namespace vhdkit::image
