// The checksum of a PC's tables, ACPI's and SMBIOS's alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vhdkit::hypervisor {

// What makes the sum of these bytes 0.
inline uint8_t table_checksum(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte value : bytes) sum += std::to_integer<unsigned>(value);
  return uint8_t(0U - sum);
}

}  // namespace vhdkit::hypervisor
