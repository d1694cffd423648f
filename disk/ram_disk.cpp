#include "disk/ram_disk.h"

#include <cassert>

#include "support/checked.h"

namespace vhdkit::disk {

RamDisk::RamDisk(Geometry geometry) : geometry_(geometry), content_("RAM disk") {
  assert(is_aligned(geometry.size_bytes, geometry.logical_sector_bytes));
  geometry_.read_only = false;
  [[maybe_unused]] const auto resized = content_.resize(geometry.size_bytes);
  assert(resized);  // memory files always can
}

Async<void> RamDisk::do_read(uint64_t disk_offset, Buffers buffers) {
  co_return co_await content_.readv(disk_offset, buffers);
}

Async<void> RamDisk::do_write(uint64_t disk_offset, Buffers buffers, Durability durability) {
  co_return co_await content_.writev(disk_offset, buffers, durability);
}

Async<void> RamDisk::do_flush() { co_return Result<void>(); }

Async<void> RamDisk::do_zero(uint64_t disk_offset, uint64_t length) {
  co_return content_.punch_hole(disk_offset, length);
}

Async<void> RamDisk::do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  const uint64_t end = disk_offset + length;
  while (disk_offset < end) {
    CO_TRY_LET(const auto data, content_.next_data(disk_offset, end));
    const uint64_t data_start = data ? data->file_offset : end;
    if (data_start > disk_offset) {
      const Extent hole{
          .disk_offset = disk_offset, .length = data_start - disk_offset, .kind = ExtentKind::zero};
      extents.append(hole);
    }
    if (!data) break;
    const Extent found{.disk_offset = data_start,
                       .length = data->length,
                       .kind = ExtentKind::data,
                       .file_offset = data_start};
    extents.append(found);
    disk_offset = data_start + data->length;
  }
  co_return Result<void>();
}

}  // namespace vhdkit::disk
