// The checksum of VHD 1.0's footer and header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vhdkit::libvhd {

// The one's complement of the sum of all bytes, the four at checksum_offset taken as zero.
// REQUIRES: bytes is a structure, at most some KiB long. Spec "Hard Disk Footer Format", Checksum.
inline uint32_t checksum_without(std::span<const std::byte> bytes, size_t checksum_offset) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const bool skipped = i >= checksum_offset && i < checksum_offset + 4;
    if (!skipped) sum += std::to_integer<uint32_t>(bytes[i]);
  }
  return ~sum;
}

}  // namespace vhdkit::libvhd
