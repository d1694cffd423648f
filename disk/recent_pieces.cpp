#include "disk/recent_pieces.h"

#include <algorithm>

namespace vhdkit::disk {

RecentPieces::Piece RecentPieces::find(uint64_t key) {
  const auto found = std::ranges::find(entries_, key, &Entry::key);
  if (found == entries_.end()) return nullptr;
  std::rotate(entries_.begin(), found, found + 1);
  return entries_.front().piece;
}

void RecentPieces::keep(uint64_t key, Piece piece) {
  if (entries_.size() == capacity_) entries_.pop_back();
  entries_.insert(entries_.begin(), Entry{.key = key, .piece = std::move(piece)});
}

Async<RecentPieces::Piece> RecentPieces::read(File& file, uint64_t file_offset, size_t length) {
  if (Piece kept = find(file_offset)) co_return kept;
  auto bytes = std::make_shared<std::vector<std::byte>>(length);
  const std::span<std::byte> buffer(*bytes);
  CO_TRY(co_await file.read(file_offset, buffer));
  Piece piece = std::move(bytes);
  keep(file_offset, piece);
  co_return piece;
}

}  // namespace vhdkit::disk
