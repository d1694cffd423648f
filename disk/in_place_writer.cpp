#include "disk/in_place_writer.h"

#include <algorithm>

#include "disk/zero_range.h"

namespace vhdkit::disk {

std::optional<async::FileRange> InPlaceWriter::in_place(uint64_t disk_offset, uint64_t length) {
  if (!usable()) return std::nullopt;
  return async::FileRange{disk_offset, length};
}

Async<WritePlace> InPlaceWriter::prepare(uint64_t disk_offset, uint64_t length) {
  CO_TRY(usable());
  co_return WritePlace{.disk_offset = disk_offset,
                       .length = length,
                       .file_offset = disk_offset,
                       .block = 0,
                       .block_offset = 0,
                       .held = {}};
}

Async<bool> InPlaceWriter::finish(WritePlace, bool) { co_return true; }

// A raw file may end within the disk's last sector.
Async<void> InPlaceWriter::zero(uint64_t disk_offset, uint64_t length) {
  CO_TRY(usable());
  const uint64_t end = std::min(disk_offset + length, file_.size_bytes());
  if (disk_offset >= end) co_return Result<void>();
  co_return co_await zero_range(file_, disk_offset, end - disk_offset);
}

Async<void> InPlaceWriter::flush() {
  CO_TRY(usable());
  auto flushed = co_await flusher_.flush();
  if (!flushed) poison(flushed.error());
  co_return usable();
}

}  // namespace vhdkit::disk
