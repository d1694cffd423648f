#include "libvhd/metadata_cache.h"

#include <algorithm>

namespace vhdkit::libvhd {

Async<MetadataCache::Piece> MetadataCache::read(uint64_t file_offset, size_t length) {
  const auto found = std::ranges::find(entries_, file_offset, &Entry::file_offset);
  if (found != entries_.end()) {
    std::rotate(entries_.begin(), found, found + 1);
    co_return entries_.front().piece;
  }
  auto bytes = std::make_shared<std::vector<std::byte>>(length);
  const std::span<std::byte> buffer(*bytes);
  CO_TRY(co_await file_.read(file_offset, buffer));
  // Another request may have read the same piece meanwhile: two of it do no harm.
  if (entries_.size() == capacity_) entries_.pop_back();
  Piece piece = std::move(bytes);
  entries_.insert(entries_.begin(), Entry{.file_offset = file_offset, .piece = piece});
  co_return piece;
}

}  // namespace vhdkit::libvhd
