// Structures of the Enhanced Disk Drive Specification 3.0 in the guest's memory. Little-endian.
#pragma once

#include <cstddef>

#include "support/bytes.h"

namespace vhdkit::hypervisor::edd {

// "Disk address packet": at DS:SI of functions 42h to 44h and 47h.
struct AddressPacket {
  uint8_t byte_count;  // of the packet: 10h, or 18h and more with the flat address
  uint8_t reserved;
  le16 block_count;  // answered with what was transferred
  le16 offset;
  le16 segment;
  le64 first_block;
};
static_assert(OnDisk<AddressPacket> && sizeof(AddressPacket) == 0x10 &&
              offsetof(AddressPacket, block_count) == 2);
// Stands behind it, and counts where segment and offset are both ffff.
struct FlatAddress {
  le64 address;
};
static_assert(OnDisk<FlatAddress>);
inline constexpr uint8_t packet_bytes_with_flat_address = 0x18;

// "Device parameters": at DS:SI of function 48h, as much of it as byte_count says.
struct Parameters {
  le16 byte_count;  // what the caller has room for, answered with what it got
  le16 flags;
  le32 cylinders;
  le32 heads;
  le32 sectors_per_track;
  le64 sector_count;
  le16 bytes_per_sector;
  le32 configuration;  // far pointer to more, as of EDD 2.0; ffff:ffff: there is none
};
static_assert(OnDisk<Parameters> && sizeof(Parameters) == 0x1e &&
              offsetof(Parameters, sector_count) == 0x10 &&
              offsetof(Parameters, configuration) == 0x1a);
inline constexpr uint16_t parameters_bytes_1 = 0x1a;
inline constexpr uint16_t parameters_bytes_2 = 0x1e;

inline constexpr uint16_t crosses_dma_boundaries = 1 << 0;  // flags
inline constexpr uint16_t geometry_is_valid = 1 << 1;
inline constexpr uint32_t no_configuration = 0xffff'ffff;

inline constexpr uint8_t version_3 = 0x30;
// "Extensions installation check", CX: functions 42h to 44h, 47h, 48h; and the EDD subset.
inline constexpr uint16_t has_packet_access = 1 << 0;
inline constexpr uint16_t has_parameters = 1 << 2;

}  // namespace vhdkit::hypervisor::edd
