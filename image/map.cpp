#include "image/map.h"

#include <algorithm>

namespace vhdkit::image {
namespace {

// Joins entries that continue each other and hands the rest on.
class Merger {
 public:
  explicit Merger(MapVisitor& visitor) : visitor_(visitor) {}

  void add(const MapEntry& entry) {
    if (pending_ && continues(*pending_, entry)) {
      pending_->length += entry.length;
      return;
    }
    finish();
    pending_ = entry;
  }

  void finish() {
    if (pending_) visitor_.visit(*pending_);
    pending_.reset();
  }

 private:
  static bool continues(const MapEntry& a, const MapEntry& b) {
    const bool same_kind =
        a.depth == b.depth && a.present == b.present && a.zero == b.zero && a.encoded == b.encoded;
    if (!same_kind || a.disk_offset + a.length != b.disk_offset) return false;
    if (!a.file_offset || !b.file_offset) return a.file_offset == b.file_offset;
    return *a.file_offset + a.length == *b.file_offset;
  }

  MapVisitor& visitor_;
  std::optional<MapEntry> pending_;
};

// depth of an extent that no image of the chain allocates is the last image's: there it ended.
MapEntry entry_of(const disk::Extent& extent, size_t layer_count) {
  const bool is_data = extent.kind == disk::ExtentKind::data;
  const bool is_encoded = extent.kind == disk::ExtentKind::encoded;
  return {.disk_offset = extent.disk_offset,
          .length = extent.length,
          .depth = std::min(extent.depth, uint32_t(layer_count - 1)),
          .present = extent.depth < layer_count,
          .zero = !is_data && !is_encoded,
          .encoded = is_encoded,
          .file_offset = is_data ? std::optional(extent.file_offset) : std::nullopt};
}

// A data extent in pieces: data, and holes of the file that read as zeroes.
Result<void> add_with_holes(const MapEntry& data, File& file, Merger& merger) {
  uint64_t done = 0;
  while (done < data.length) {
    const uint64_t from = *data.file_offset + done;
    const uint64_t end = *data.file_offset + data.length;
    TRY_LET(const std::optional<async::FileRange> range, file.next_data(from, end));
    const uint64_t data_start = range ? range->file_offset : end;
    MapEntry piece = data;
    piece.disk_offset += done;
    piece.file_offset = from;
    piece.zero = data_start > from;
    piece.length = piece.zero ? data_start - from : range->length;
    merger.add(piece);
    done += piece.length;
  }
  return {};
}

}  // namespace

Async<void> map(Image& image, bool refine, MapVisitor& visitor) {
  disk::LayeredDisk& disk = image.disk();
  Merger merger(visitor);
  disk::ExtentList extents;
  uint64_t position = 0;
  while (position < disk.geometry().size_bytes) {
    extents.clear();
    CO_TRY(co_await disk.extents(position, disk.geometry().size_bytes - position, extents));
    for (const disk::Extent& extent : extents) {
      const MapEntry entry = entry_of(extent, disk.layer_count());
      position += entry.length;
      if (refine && entry.file_offset) {
        CO_TRY(add_with_holes(entry, disk.layer(entry.depth).file(), merger));
      } else {
        merger.add(entry);
      }
    }
  }
  merger.finish();
  co_return Result<void>();
}

}  // namespace vhdkit::image
