// A format's tables (BAT, sector bitmaps) in memory: read in pieces, changed in pages.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "async/file.h"

namespace vhdkit::disk {

struct TablePiece {
  uint64_t file_offset;
  std::vector<std::byte> bytes;
};

// What a change of the tables writes.
struct ChangedPage {
  uint64_t file_offset;
  std::vector<std::byte> bytes;
  // Keeps the piece in memory until the page is in the file.
  std::shared_ptr<const TablePiece> piece;
};

// Loop-bound. One piece lies in memory at most once, so all who look at it see its changes. Pieces
// that somebody holds stay, changed ones too; of the others those that were not used lately go.
class TablePieces {
 public:
  using Handle = std::shared_ptr<TablePiece>;

  // capacity: pieces kept that nobody holds, at least 1. page_bytes: the unit of changes; pieces
  // begin at multiples of it and are whole pages where they are changed.
  TablePieces(size_t capacity, size_t page_bytes) : capacity_(capacity), page_bytes_(page_bytes) {}

  // Null where it is not in memory. Good until the next await.
  const TablePiece* find(uint64_t file_offset) {
    const auto found = slots_.find(file_offset);
    if (found == slots_.end()) return nullptr;
    found->second.used = true;
    return found->second.piece.get();
  }
  // REQUIRES: it is in memory.
  Handle hold(uint64_t file_offset) { return slots_.at(file_offset).piece; }
  // One offset has one length. Errors: io, out_of_range.
  Async<Handle> read(File& file, uint64_t file_offset, size_t length);

  // A piece of zeroes where the file has zeroes too, so that nothing needs to be read.
  void make(uint64_t file_offset, size_t length);

  // REQUIRES: the piece is in memory and has the bytes' place.
  void change(uint64_t piece_offset, size_t at, std::span<const std::byte> bytes);
  size_t changed_page_count() const { return changed_.size(); }
  // The first page at or after file_offset that ever changed; below `end`. Until it is written, the
  // file does not tell what is there.
  std::optional<uint64_t> first_changed(uint64_t file_offset, uint64_t end) const;
  // The pages that changed since the last call, as they are now, in the order of the file.
  std::vector<ChangedPage> take_changes();

 private:
  struct Slot {
    Handle piece;
    bool used = true;
  };
  void drop_old();

  size_t capacity_;
  size_t page_bytes_;
  std::unordered_map<uint64_t, Slot> slots_;
  std::map<uint64_t, Handle> changed_;  // by the page's file offset
  std::set<uint64_t> ever_changed_;     // file offsets of pages
};

}  // namespace vhdkit::disk
