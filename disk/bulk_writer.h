// A new image whose payload arrives in bulk: the format lays it out, somebody else moves the bytes.
#pragma once

#include "async/file.h"
#include "disk/geometry.h"

namespace vhdkit::disk {

// Loop-bound. Writes into a file that it does not own and that nobody else reads before finish()
// succeeded.
//
// Use: for every part of the guest's disk that is not all zeroes, ask place() where it belongs and
// bring it there by any means (write, clone, copy); then finish(). What is never placed reads as
// zeroes.
class BulkWriter {
 public:
  BulkWriter() = default;
  BulkWriter(const BulkWriter&) = delete;
  BulkWriter& operator=(const BulkWriter&) = delete;
  virtual ~BulkWriter() = default;

  virtual const Geometry& geometry() const = 0;
  virtual File& file() = 0;

  // The unit of allocation, bytes: a power of two; 0 where all guest bytes lie contiguous at
  // place(0, …).
  virtual uint64_t block_size_bytes() const = 0;

  // The file offset of guest bytes [disk_offset, disk_offset + length), which lie in one block. The
  // first call for a block gives it the next place in the file, so asking in guest order makes the
  // file sequential. The place's bytes are zero until written: the file is new and the writer
  // leaves holes. Errors: no_space where the format's table cannot address the place.
  virtual Result<uint64_t> place(uint64_t disk_offset, uint64_t length) = 0;

  // Writes the metadata, in ascending file order and each byte once, so that the file may be a
  // stream; then gives the file its final size with resize(). The caller flushes.
  virtual Async<void> finish() = 0;

  // The file's exact final size, bytes, for the blocks placed so far.
  virtual uint64_t file_size_bytes() const = 0;
};

}  // namespace vhdkit::disk
