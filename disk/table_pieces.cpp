#include "disk/table_pieces.h"

#include <algorithm>
#include <cassert>

#include "support/checked.h"

namespace vhdkit::disk {

Async<TablePieces::Handle> TablePieces::read(File& file, uint64_t file_offset, size_t length) {
  if (find(file_offset) != nullptr) co_return hold(file_offset);
  auto piece = std::make_shared<TablePiece>();
  piece->file_offset = file_offset;
  piece->bytes.resize(length);
  const std::span<std::byte> buffer(piece->bytes);
  CO_TRY(co_await file.read(file_offset, buffer));
  // Another request may have read it meanwhile, and even have changed it: that one counts.
  if (find(file_offset) != nullptr) co_return hold(file_offset);
  if (slots_.size() >= capacity_) drop_old();
  slots_.emplace(file_offset, Slot{.piece = piece});
  co_return piece;
}

// Those that nobody holds and nobody used since the last time; where there are none, all that
// nobody holds.
void TablePieces::drop_old() {
  const auto is_held = [](const Slot& slot) { return slot.piece.use_count() > 1; };
  std::erase_if(slots_,
                [&](const auto& slot) { return !slot.second.used && !is_held(slot.second); });
  if (slots_.size() >= capacity_)
    std::erase_if(slots_, [&](const auto& slot) { return !is_held(slot.second); });
  for (auto& [file_offset, slot] : slots_) slot.used = false;
}

void TablePieces::make(uint64_t file_offset, size_t length) {
  if (slots_.size() >= capacity_) drop_old();
  auto piece = std::make_shared<TablePiece>();
  piece->file_offset = file_offset;
  piece->bytes.resize(length);
  slots_.insert_or_assign(file_offset, Slot{.piece = std::move(piece)});
}

void TablePieces::change(uint64_t piece_offset, size_t at, std::span<const std::byte> bytes) {
  const Handle piece = hold(piece_offset);
  assert(range_fits(at, bytes.size(), piece->bytes.size()) && !bytes.empty());
  std::ranges::copy(bytes, piece->bytes.begin() + ptrdiff_t(at));
  const uint64_t end = piece_offset + at + bytes.size();
  for (uint64_t page = align_down(piece_offset + at, page_bytes_); page < end; page += page_bytes_)
    if (changed_.try_emplace(page, piece).second) ever_changed_.insert(page);
}

std::optional<uint64_t> TablePieces::first_changed(uint64_t file_offset, uint64_t end) const {
  const auto found = ever_changed_.lower_bound(align_down(file_offset, page_bytes_));
  if (found == ever_changed_.end() || *found >= end) return std::nullopt;
  return std::max(*found, file_offset);
}

std::vector<ChangedPage> TablePieces::take_changes() {
  std::vector<ChangedPage> pages;
  pages.reserve(changed_.size());
  for (auto& [file_offset, piece] : changed_) {
    const auto begin = piece->bytes.begin() + ptrdiff_t(file_offset - piece->file_offset);
    pages.push_back({.file_offset = file_offset,
                     .bytes = {begin, begin + ptrdiff_t(page_bytes_)},
                     .piece = std::move(piece)});
  }
  changed_.clear();
  return pages;
}

}  // namespace vhdkit::disk
