// The pieces of a file that were used last, by whatever number finds them again.
#pragma once

#include <memory>
#include <vector>

#include "async/file.h"

namespace vhdkit::disk {

// Loop-bound. A piece lives on while somebody holds it.
class RecentPieces {
 public:
  using Piece = std::shared_ptr<const std::vector<std::byte>>;

  // capacity: pieces kept, at least 1; a search looks at each.
  explicit RecentPieces(size_t capacity) : capacity_(capacity) {}

  // Null where it is not here.
  Piece find(uint64_t key);
  // Two pieces of one key, read at the same time by two requests, do no harm.
  void keep(uint64_t key, Piece piece);

  // The file's bytes at file_offset, which is their key; read unless they are here. The file does
  // not change, and one offset has one length. Errors: io, out_of_range.
  Async<Piece> read(File& file, uint64_t file_offset, size_t length);

 private:
  struct Entry {
    uint64_t key;
    Piece piece;
  };
  size_t capacity_;
  std::vector<Entry> entries_;  // the latest used first
};

}  // namespace vhdkit::disk
