// A disk's content in guest order: parts that say where the bytes are, and chunks that hold them.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "async/task_group.h"
#include "disk/layered_disk.h"

namespace vhdkit::image {

// A piece of the disk, with the holes that the file system knows inside allocated blocks taken out.
struct Part {
  disk::Extent extent;  // data, zero or encoded; its depth says which layer's file
  bool at_end = false;  // nothing is left; extent is empty
};

// Walks a disk from its first to its last byte. Loop-bound; the disk outlives it.
class ContentCursor {
 public:
  explicit ContentCursor(disk::LayeredDisk& disk) : disk_(disk) {}

  // The next part, at most max_bytes long unless it is zero. Data and encoded parts end at
  // multiples of max_bytes, so that a part lies in one block of a target whose block size is a
  // multiple of it. Errors: corrupt, io.
  Async<Part> next(uint64_t max_bytes);

 private:
  Async<void> refill();
  Result<void> refine(disk::Extent& extent);

  disk::LayeredDisk& disk_;
  disk::ExtentList extents_;
  size_t next_index_ = 0;
  uint64_t position_ = 0;  // disk offset of the next part
  uint64_t known_data_end_ =
      0;  // up to this disk offset, the current extent is known to be no hole
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

// Reads a disk in guest order with several requests in flight. Loop-bound.
//
// REQUIRES: close() was awaited before destruction, whatever next() returned.
class ReadAhead {
 public:
  struct Options {
    uint64_t chunk_bytes = 1 << 20;  // power of two
    unsigned request_count = 8;  // reads in flight; as many buffers again serve the chunks in use
  };
  ReadAhead(disk::LayeredDisk& disk, Options options);

  // Chunks tile the disk. A chunk's bytes stay for request_count further calls at least.
  Async<Chunk> next();
  // Waits for everything in flight, users included, and gives the first error of a user.
  Async<void> close();

 private:
  struct Buffer {
    std::unique_ptr<std::byte[]> memory;
    async::TaskGroup io;
  };

  Async<void> top_up();
  Async<void> fetch(disk::Extent extent, std::span<std::byte> bytes);

  disk::LayeredDisk& disk_;
  Options options_;
  ContentCursor cursor_;
  std::vector<Buffer> buffers_;
  size_t next_buffer_ = 0;
  std::deque<Chunk> pending_;
  size_t reads_pending_ = 0;
  bool at_end_ = false;
};

}  // namespace vhdkit::image
