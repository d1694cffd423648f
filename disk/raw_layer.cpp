#include "disk/raw_layer.h"

#include <algorithm>

#include "support/checked.h"

namespace vhdkit::disk {

RawLayer::RawLayer(std::unique_ptr<File> file) : file_(std::move(file)) {
  geometry_.size_bytes = align_up(file_->size_bytes(), geometry_.logical_sector_bytes);
}

Async<void> RawLayer::resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  const uint64_t end = disk_offset + length;
  const uint64_t data_end = std::min(end, file_->size_bytes());
  if (disk_offset < data_end) {
    const Extent data{.disk_offset = disk_offset,
                      .length = data_end - disk_offset,
                      .kind = ExtentKind::data,
                      .file_offset = disk_offset};
    extents.append(data);
  }
  const uint64_t zero_start = std::max(disk_offset, data_end);
  if (zero_start < end) {
    const Extent zero{
        .disk_offset = zero_start, .length = end - zero_start, .kind = ExtentKind::zero};
    extents.append(zero);
  }
  co_return Result<void>();
}

Async<void> RawLayer::audit() { co_return Result<void>(); }

}  // namespace vhdkit::disk
