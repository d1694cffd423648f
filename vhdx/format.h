// The structures of a VHDX file as they lie in it, and the numbers of [MS-VHDX]. Nothing else.
//
//   0          File Type Identifier
//   64 KiB     Header 1            192 KiB   Region Table 1
//   128 KiB    Header 2            256 KiB   Region Table 2
//   1 MiB …    Log, BAT region, metadata region, payload blocks, sector bitmap blocks, in any
//   order,
//              each on a multiple of 1 MiB, none overlapping another
//
// All integers are little-endian.
#pragma once

#include "support/bytes.h"
#include "support/checked.h"
#include "support/guid.h"

namespace vhdkit::vhdx {

inline constexpr uint64_t alignment_bytes =
    1 * MiB;  // 2.1: every structure after the header section
inline constexpr uint64_t header_section_bytes = 1 * MiB;  // 2.2
inline constexpr uint64_t header_offsets[2] = {64 * KiB, 128 * KiB};
inline constexpr uint64_t region_table_offsets[2] = {192 * KiB, 256 * KiB};
inline constexpr uint64_t max_disk_bytes = 64 * TiB;  // 2.6.2.2
inline constexpr uint32_t min_block_bytes = 1 * MiB;  // 2.6.2.1
inline constexpr uint32_t max_block_bytes = 256 * MiB;

// 2.2.1 File Type Identifier. At offset 0; never written again after creation.
struct FileTypeIdentifier {
  le64 signature;                      // "vhdxfile"
  std::array<std::byte, 512> creator;  // UTF-16, zero-terminated where shorter; for people only
};
static_assert(OnDisk<FileTypeIdentifier> && sizeof(FileTypeIdentifier) == 520);
inline constexpr uint64_t file_signature = 0x656c696678646876;  // "vhdxfile"

// 2.2.2 Header. Two of them; the valid one with the larger sequence number is current.
struct Header {
  le32 signature;  // "head"
  le32 checksum;   // CRC-32C of the 4 KiB, this field taken as 0
  le64 sequence_number;
  StoredGuid file_write_guid;  // changed before the first modification of the file in a session
  StoredGuid data_write_guid;  // changed before the first modification that a guest can see
  StoredGuid log_guid;         // zero: the log is empty
  le16 log_version;            // 0
  le16 version;                // 1
  le32 log_length;             // bytes, multiple of 1 MiB
  le64 log_offset;             // bytes, multiple of 1 MiB
  std::array<std::byte, 4016> reserved;
};
static_assert(OnDisk<Header> && sizeof(Header) == 4096 && offsetof(Header, log_offset) == 72);
inline constexpr uint32_t header_signature = 0x64616568;  // "head"
inline constexpr uint16_t supported_version = 1;
inline constexpr uint16_t supported_log_version = 0;

// 2.2.3.1 Region Table Header. Followed by entry_count entries; the table is 64 KiB.
struct RegionTableHeader {
  le32 signature;    // "regi"
  le32 checksum;     // CRC-32C of the 64 KiB, this field taken as 0
  le32 entry_count;  // at most 2,047
  le32 reserved;
};
static_assert(OnDisk<RegionTableHeader> && sizeof(RegionTableHeader) == 16);
inline constexpr uint32_t region_table_signature = 0x69676572;  // "regi"
inline constexpr uint64_t region_table_bytes = 64 * KiB;
inline constexpr uint32_t max_region_count = 2047;

// 2.2.3.2 Region Table Entry
struct RegionTableEntry {
  StoredGuid guid;
  le64 file_offset;  // bytes, multiple of 1 MiB, at least 1 MiB
  le32 length;       // bytes, multiple of 1 MiB
  le32 flags;        // bit 0: Required
};
static_assert(OnDisk<RegionTableEntry> && sizeof(RegionTableEntry) == 32);
inline constexpr uint32_t region_required = 1;

inline constexpr Guid bat_region = Guid::literal("2dc27766-f623-4200-9d64-115e9bfd4a08");
inline constexpr Guid metadata_region = Guid::literal("8b7ca206-4790-4b9a-b8fe-575f050f886e");

// 2.3.1.1 Log Entry Header. An entry is whole 4 KiB sectors: this header and 126 descriptors in the
// first, 128 descriptors in each further descriptor sector, then one data sector for each data
// descriptor.
struct LogEntryHeader {
  le32 signature;     // "loge"
  le32 checksum;      // CRC-32C of entry_length bytes, this field taken as 0
  le32 entry_length;  // bytes, multiple of 4 KiB
  le32 tail;          // bytes from the log's start: the first entry of the sequence that ends here
  le64 sequence_number;  // larger than 0
  le32 descriptor_count;
  le32 reserved;
  StoredGuid log_guid;
  le64 flushed_file_offset;  // bytes: the file was durably at least this long
  le64 last_file_offset;     // bytes: every allocated structure fits below
};
static_assert(OnDisk<LogEntryHeader> && sizeof(LogEntryHeader) == 64);
inline constexpr uint32_t log_entry_signature = 0x65676f6c;  // "loge"
inline constexpr uint32_t log_sector_bytes = 4 * KiB;
inline constexpr uint32_t first_sector_descriptors = 126;
inline constexpr uint32_t sector_descriptors = 128;

// 2.3.1.2 Zero Descriptor
struct ZeroDescriptor {
  le32 signature;  // "zero"
  le32 reserved;
  le64 zero_length;  // bytes, multiple of 4 KiB
  le64 file_offset;  // bytes, multiple of 4 KiB
  le64 sequence_number;
};
static_assert(OnDisk<ZeroDescriptor> && sizeof(ZeroDescriptor) == 32);
inline constexpr uint32_t zero_descriptor_signature = 0x6f72657a;  // "zero"

// 2.3.1.3 Data Descriptor
struct DataDescriptor {
  le32 signature;                           // "desc"
  std::array<std::byte, 4> trailing_bytes;  // bytes 4092 … 4095 of the update
  std::array<std::byte, 8> leading_bytes;   // bytes 0 … 7 of the update
  le64 file_offset;                         // bytes, multiple of 4 KiB
  le64 sequence_number;
};
static_assert(OnDisk<DataDescriptor> && sizeof(DataDescriptor) == 32);
inline constexpr uint32_t data_descriptor_signature = 0x63736564;  // "desc"

// 2.3.1.4 Data Sector
struct LogDataSector {
  le32 signature;  // "data"
  le32 sequence_high;
  std::array<std::byte, 4084> data;  // bytes 8 … 4091 of the update
  le32 sequence_low;
};
static_assert(OnDisk<LogDataSector> && sizeof(LogDataSector) == 4096);
inline constexpr uint32_t data_sector_signature = 0x61746164;  // "data"

// 2.5.1 BAT Entry: state in bits 0–2, reserved bits 3–19, FileOffsetMB in bits 20–63. Because the
// offset counts MiB, the entry without its low 20 bits is the file offset in bytes.
inline constexpr uint64_t bat_state_mask = 0x7;
inline constexpr uint64_t bat_reserved_mask = 0xffff8;
inline constexpr uint64_t bat_offset_mask = ~uint64_t{0xfffff};

// 2.5.1.1 and 2.5.1.2. Values 4 and 5 are reserved; sector bitmap entries know not_present and
// fully_present.
enum class BlockState : uint8_t {
  not_present = 0,
  undefined = 1,
  zero = 2,
  unmapped = 3,
  fully_present = 6,
  partially_present = 7,
};
constexpr uint64_t bat_state_of(uint64_t entry) { return entry & bat_state_mask; }
constexpr uint64_t bat_file_offset_of(uint64_t entry) { return entry & bat_offset_mask; }
constexpr uint64_t make_bat_entry(BlockState state, uint64_t file_offset) {
  return (file_offset & bat_offset_mask) | uint64_t(state);
}

// 2.4: a sector bitmap block is 1 MiB, one bit a sector (bit 0 of byte 0 is the chunk's first); so
// a chunk is 2^23 sectors.
inline constexpr uint64_t sector_bitmap_bytes = 1 * MiB;
inline constexpr uint64_t sectors_per_chunk = sector_bitmap_bytes * 8;

// 2.6.1.1 Metadata Table Header. The table takes the region's first 64 KiB.
struct MetadataTableHeader {
  le64 signature;  // "metadata"
  le16 reserved;
  le16 entry_count;  // at most 2,047
  std::array<std::byte, 20> reserved2;
};
static_assert(OnDisk<MetadataTableHeader> && sizeof(MetadataTableHeader) == 32);
inline constexpr uint64_t metadata_signature = 0x617461646174656d;  // "metadata"
inline constexpr uint64_t metadata_table_bytes = 64 * KiB;
inline constexpr uint32_t max_metadata_count = 2047;
inline constexpr uint32_t max_user_metadata_count = 1024;
inline constexpr uint32_t max_metadata_item_bytes = 1 * MiB;

// 2.6.1.2 Metadata Table Entry
struct MetadataTableEntry {
  StoredGuid item_id;
  le32 offset;  // bytes from the region's start, at least 64 KiB; 0 for an empty item
  le32 length;  // bytes
  le32 flags;
  le32 reserved2;
};
static_assert(OnDisk<MetadataTableEntry> && sizeof(MetadataTableEntry) == 32);
inline constexpr uint32_t metadata_is_user = 1;
inline constexpr uint32_t metadata_is_virtual_disk = 2;
inline constexpr uint32_t metadata_is_required = 4;
inline constexpr uint32_t metadata_flags_mask = 7;

// 2.6.2 Known Metadata Items
inline constexpr Guid file_parameters_item = Guid::literal("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
inline constexpr Guid virtual_disk_size_item =
    Guid::literal("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
inline constexpr Guid virtual_disk_id_item = Guid::literal("beca12ab-b2e6-4523-93ef-c309e000c746");
inline constexpr Guid logical_sector_size_item =
    Guid::literal("8141bf1d-a96f-4709-ba47-f233a8faab5f");
inline constexpr Guid physical_sector_size_item =
    Guid::literal("cda348c7-445d-4471-9cc9-e9885251c556");
inline constexpr Guid parent_locator_item = Guid::literal("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");

// 2.6.2.1 File Parameters
struct FileParameters {
  le32 block_size;  // bytes, power of two, 1 MiB … 256 MiB
  le32 flags;       // bit 0: LeaveBlockAllocated (fixed), bit 1: HasParent
};
static_assert(OnDisk<FileParameters> && sizeof(FileParameters) == 8);
inline constexpr uint32_t leave_blocks_allocated = 1;
inline constexpr uint32_t has_parent = 2;

// 2.6.2.6.1 Parent Locator Header, followed by key_value_count entries
struct ParentLocatorHeader {
  StoredGuid locator_type;
  le16 reserved;
  le16 key_value_count;
};
static_assert(OnDisk<ParentLocatorHeader> && sizeof(ParentLocatorHeader) == 20);
inline constexpr Guid vhdx_locator_type = Guid::literal("b04aefb7-d19e-4a81-b789-25b8e9445913");

// 2.6.2.6.2 Parent Locator Entry: offsets from the item's start, lengths in bytes of UTF-16, no
// terminator
struct ParentLocatorEntry {
  le32 key_offset;
  le32 value_offset;
  le16 key_length;
  le16 value_length;
};
static_assert(OnDisk<ParentLocatorEntry> && sizeof(ParentLocatorEntry) == 12);

}  // namespace vhdkit::vhdx
