// What a disk looks like to its guest.
#pragma once

#include <cstdint>

namespace vhdkit::disk {

struct Geometry {
  uint64_t size_bytes = 0;               // multiple of logical_sector_bytes
  uint32_t logical_sector_bytes = 512;   // 512 or 4096
  uint32_t physical_sector_bytes = 512;  // 512 or 4096
  bool read_only = true;
};

}  // namespace vhdkit::disk
