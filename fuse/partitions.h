// The partitions of a disk, and what lies in them, as libblkid sees them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "support/result.h"

namespace vhdkit::fuse {

struct Partition {
  unsigned number;       // 1 to 4 and 5 upwards as Linux has them; GPT: the entry's
  uint64_t disk_offset;  // bytes
  uint64_t length;       // bytes
};

// Of GPT and MBR, logical ones included. What the table says is checked against the disk: a
// partition that is empty, that is a container of others or that does not lie inside the disk whole
// is left out, with a sentence in `complaints`. descriptor: of the disk's bytes, open for reading;
// may block. Errors: io.
Result<std::vector<Partition>> find_partitions(int descriptor, uint32_t sector_bytes,
                                               std::vector<std::string>& complaints);

// What libblkid calls the file system at [disk_offset, disk_offset + length): "ext4", "ntfs";
// empty: none that it knows. Swap, RAID and encryption are no file systems. Errors: io.
Result<std::string> file_system_at(int descriptor, uint64_t disk_offset, uint64_t length);

}  // namespace vhdkit::fuse
