// The pieces of a file that were used last, by whatever number finds them again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace vhdkit::image {

// Loop-bound. A piece lives on while somebody holds it.
class RecentPieces {
 public:
  using Piece = std::shared_ptr<const std::vector<std::byte>>;

  // capacity: pieces kept, at least 1; a search looks at each.
  explicit RecentPieces(size_t capacity) : capacity_(capacity) {}

  // Null where it is not here.
  Piece find(uint64_t key) {
    const auto found = std::ranges::find(entries_, key, &Entry::key);
    if (found == entries_.end()) return nullptr;
    std::rotate(entries_.begin(), found, found + 1);
    return entries_.front().piece;
  }
  // Two pieces of one key, read at the same time by two requests, do no harm.
  void keep(uint64_t key, Piece piece) {
    if (entries_.size() == capacity_) entries_.pop_back();
    entries_.insert(entries_.begin(), Entry{.key = key, .piece = std::move(piece)});
  }

 private:
  struct Entry {
    uint64_t key;
    Piece piece;
  };
  size_t capacity_;
  std::vector<Entry> entries_;  // the latest used first
};

}  // namespace vhdkit::image
