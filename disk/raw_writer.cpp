#include "disk/raw_writer.h"

#include <cassert>

#include "support/checked.h"

namespace vhdkit::disk {

RawWriter::RawWriter(File& file, uint64_t size_bytes) : file_(file) {
  geometry_.size_bytes = size_bytes;
}

Result<uint64_t> RawWriter::place(uint64_t disk_offset, uint64_t length) {
  assert(range_fits(disk_offset, length, geometry_.size_bytes));
  return disk_offset;
}

Async<void> RawWriter::finish() { co_return file_.resize(geometry_.size_bytes); }

}  // namespace vhdkit::disk
