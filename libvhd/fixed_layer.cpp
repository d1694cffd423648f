#include "libvhd/fixed_layer.h"

#include <cassert>

#include "libvhd/describe.h"

namespace vhdkit::libvhd {

FixedLayer::FixedLayer(std::unique_ptr<File> file, FoundFooter found, bool writable)
    : file_(std::move(file)), found_(std::move(found)) {
  geometry_.size_bytes = found_.footer.size_bytes();
  assert(geometry_.size_bytes <= found_.content_end);
  if (writable) writer_.emplace(*file_);
}

std::optional<disk::Extent> FixedLayer::peek(uint64_t disk_offset, uint64_t length) {
  return disk::Extent{.disk_offset = disk_offset,
                      .length = length,
                      .kind = disk::ExtentKind::data,
                      .file_offset = disk_offset};
}

Async<void> FixedLayer::resolve(uint64_t disk_offset, uint64_t length, disk::ExtentList& extents) {
  extents.append(*peek(disk_offset, length));
  co_return Result<void>();
}

disk::Description FixedLayer::describe() const { return describe_footer(found_); }

}  // namespace vhdkit::libvhd
