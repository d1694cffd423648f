// CRC-32C (Castagnoli), the checksum of VHDX. [MS-VHDX] 2: polynomial 0x1EDC6F41.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vhdkit {

// before: the checksum of the bytes that come before these, so that long runs are taken in pieces.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t before = 0);

// The checksum with the four bytes at checksum_offset taken as zero, as headers keep it in
// themselves.
uint32_t crc32c_without(std::span<const std::byte> bytes, size_t checksum_offset);

}  // namespace vhdkit
