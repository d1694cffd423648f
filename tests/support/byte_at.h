// Single bytes of disks, and runs of them in files, for tests whose content is simple.
#pragma once

#include <vector>

#include "async/memory_file.h"
#include "disk/disk.h"
#include "support/checked.h"
#include "tests/support/await.h"

namespace vhdkit::tests {

// The value of the byte at this place of the disk.
inline int byte_at(disk::Disk& disk, uint64_t disk_offset) {
  std::vector<std::byte> sector(512);
  const std::span<std::byte> buffer(sector);
  REQUIRE_OK(await(disk.read(align_down(disk_offset, 512), buffer)));
  return int(sector[disk_offset % 512]);
}

inline void fill(async::MemoryFile& file, uint64_t file_offset, uint64_t length, int value) {
  const std::vector<std::byte> bytes(length, std::byte(value));
  file.store(file_offset, bytes);
}

}  // namespace vhdkit::tests
