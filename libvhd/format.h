// The structures of a VHD 1.0 file as they lie in it. Nothing else.
//
// Fixed:                  data, Footer
// Dynamic, differencing:  copy of the Footer, Dynamic Disk Header, BAT, blocks (sector bitmap, then
// data),
//                         Footer; parent locator data anywhere between them
//
// All integers are big-endian. "Spec" is Microsoft's "Virtual Hard Disk Image Format
// Specification" 1.0.
#pragma once

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::libvhd {

inline constexpr uint64_t sector_bytes = 512;

enum class DiskType : uint32_t { none = 0, fixed = 2, dynamic = 3, differencing = 4 };

// Spec "Hard Disk Footer Format"
struct Footer {
  be64 cookie;               // "conectix"
  be32 features;             // bit 0 temporary, bit 1 reserved and always set
  be32 file_format_version;  // 0x00010000
  be64 data_offset;          // bytes: the Dynamic Disk Header; all ones for fixed disks
  be32 time_stamp;           // seconds since 2000-01-01 00:00:00 UTC
  be32 creator_application;
  be32 creator_version;
  be32 creator_host_os;
  be64 original_size;  // bytes
  be64 current_size;   // bytes
  be16 cylinders;
  uint8_t heads;
  uint8_t sectors_per_track;
  be32 disk_type;
  be32 checksum;  // one's complement of the sum of all bytes, this field taken as 0
  std::array<std::byte, 16> unique_id;  // in the order of its text form
  uint8_t saved_state;
  std::array<std::byte, 427> reserved;
};
static_assert(OnDisk<Footer> && sizeof(Footer) == 512 && offsetof(Footer, checksum) == 64);
inline constexpr uint64_t footer_cookie = 0x636f6e6563746978;  // "conectix"
inline constexpr uint32_t features_temporary = 1;
inline constexpr uint32_t features_reserved = 2;
inline constexpr uint32_t supported_version = 0x00010000;
inline constexpr uint64_t no_offset = ~uint64_t{0};
// Virtual PC before 2004 wrote the footer without its last byte.
inline constexpr uint64_t old_footer_bytes = 511;

// Spec "Parent Locator": platform code, and where the platform's path lies in the file
struct ParentLocatorEntry {
  be32 platform_code;
  be32 platform_data_space;   // room for it; sectors by the specification, bytes as many writers
                              // have it
  be32 platform_data_length;  // bytes
  be32 reserved;
  be64 platform_data_offset;  // bytes
};
static_assert(OnDisk<ParentLocatorEntry> && sizeof(ParentLocatorEntry) == 24);
inline constexpr uint32_t platform_none = 0;
inline constexpr uint32_t platform_wi2r = 0x57693272;  // deprecated, relative, not UTF-16
inline constexpr uint32_t platform_wi2k = 0x5769326b;  // deprecated, absolute, not UTF-16
inline constexpr uint32_t platform_w2ru = 0x57327275;  // relative, UTF-16 little-endian
inline constexpr uint32_t platform_w2ku = 0x57326b75;  // absolute, UTF-16 little-endian
inline constexpr uint32_t platform_mac = 0x4d616320;   // Mac OS alias
inline constexpr uint32_t platform_macx = 0x4d616358;  // file URL, UTF-8

// Spec "Dynamic Disk Header Format"
struct DynamicHeader {
  be64 cookie;             // "cxsparse"
  be64 data_offset;        // all ones
  be64 table_offset;       // bytes: the BAT
  be32 header_version;     // 0x00010000
  be32 max_table_entries;  // blocks of the disk, at least
  be32 block_size;         // bytes, without the sector bitmap; a power of two
  be32 checksum;           // as the footer's
  std::array<std::byte, 16> parent_unique_id;
  be32 parent_time_stamp;
  be32 reserved;
  std::array<std::byte, 512> parent_unicode_name;  // UTF-16 big-endian
  std::array<ParentLocatorEntry, 8> parent_locators;
  std::array<std::byte, 256> reserved2;
};
static_assert(OnDisk<DynamicHeader> && sizeof(DynamicHeader) == 1024 &&
              offsetof(DynamicHeader, parent_locators) == 576);
inline constexpr uint64_t dynamic_header_cookie = 0x6378737061727365;  // "cxsparse"

// Spec "Block Allocation Table": be32 sector numbers of the blocks, each block a sector bitmap (bit
// 7 of byte 0 is the first sector; padded to whole sectors) followed by its data.
inline constexpr uint32_t unused_bat_entry = 0xffffffff;
inline constexpr uint32_t default_block_bytes = 2 * MiB;
inline constexpr uint32_t min_block_bytes = 512 * KiB;

// Not in the specification: blktap (XenServer) keeps a map of the full blocks, announced in the
// sector behind the BAT. Facts: blktap's vhd.h.
struct BatmapHeader {
  be64 cookie;         // "tdbatmap"
  be64 batmap_offset;  // bytes
  be32 batmap_size;    // sectors
};
static_assert(OnDisk<BatmapHeader> && sizeof(BatmapHeader) == 20);
inline constexpr uint64_t batmap_cookie = 0x74646261746d6170;  // "tdbatmap"

// Spec "Creator Application"; others are in docs/formats/vhd.md.
inline constexpr uint32_t creator_of(const char (&text)[5]) {
  return uint32_t(uint8_t(text[0])) << 24 | uint32_t(uint8_t(text[1])) << 16 |
         uint32_t(uint8_t(text[2])) << 8 | uint32_t(uint8_t(text[3]));
}

}  // namespace vhdkit::libvhd
