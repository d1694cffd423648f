// A few recently used pieces of a file's metadata.
#pragma once

#include <memory>
#include <vector>

#include "async/file.h"

namespace vhdkit::libvhd {

// Loop-bound. The file outlives the cache and does not change.
class MetadataCache {
 public:
  using Piece = std::shared_ptr<const std::vector<std::byte>>;

  // capacity: pieces kept, at least 1.
  MetadataCache(File& file, size_t capacity) : file_(file), capacity_(capacity) {}

  // The bytes at file_offset, read unless they are here. A piece is always asked for whole: one
  // offset has one length. Errors: io.
  Async<Piece> read(uint64_t file_offset, size_t length);

 private:
  struct Entry {
    uint64_t file_offset;
    Piece piece;
  };

  File& file_;
  size_t capacity_;
  std::vector<Entry> entries_;  // the latest used first
};

}  // namespace vhdkit::libvhd
