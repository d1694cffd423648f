#include "libvhd/fixed_writer.h"

#include <cassert>

namespace vhdkit::libvhd {

FixedWriter::FixedWriter(File& file, const HardDiskFooter& footer) : file_(file), footer_(footer) {
  geometry_.size_bytes = footer.current_size_bytes;
  geometry_.read_only = false;
}

Result<uint64_t> FixedWriter::place(uint64_t disk_offset, uint64_t length) {
  assert(range_fits(disk_offset, length, geometry_.size_bytes));
  return disk_offset;
}

Async<void> FixedWriter::finish() {
  const Footer raw = build_footer(footer_);
  const auto bytes = bytes_of(raw);
  CO_TRY(co_await file_.write(geometry_.size_bytes, bytes));
  co_return file_.resize(file_size_bytes());
}

}  // namespace vhdkit::libvhd
