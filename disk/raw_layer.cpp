#include "disk/raw_layer.h"

#include <algorithm>

#include "support/checked.h"

namespace vhdkit::disk {

RawLayer::RawLayer(std::unique_ptr<File> file, bool writable) : file_(std::move(file)) {
  geometry_.size_bytes = align_up(file_->size_bytes(), geometry_.logical_sector_bytes);
  if (writable) writer_.emplace(*file_);
}

std::optional<Extent> RawLayer::peek(uint64_t disk_offset, uint64_t length) {
  const uint64_t file_bytes = file_->size_bytes();
  if (disk_offset >= file_bytes)
    return Extent{.disk_offset = disk_offset, .length = length, .kind = ExtentKind::zero};
  return Extent{.disk_offset = disk_offset,
                .length = std::min(length, file_bytes - disk_offset),
                .kind = ExtentKind::data,
                .file_offset = disk_offset};
}

Async<void> RawLayer::resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  const uint64_t end = disk_offset + length;
  while (disk_offset < end) {
    const Extent extent = *peek(disk_offset, end - disk_offset);
    extents.append(extent);
    disk_offset += extent.length;
  }
  co_return Result<void>();
}

Async<void> RawLayer::audit() { co_return Result<void>(); }

}  // namespace vhdkit::disk
