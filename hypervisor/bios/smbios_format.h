// SMBIOS's tables as they lie in memory: DMTF DSP0134 2.8. Little-endian. Each structure begins
// with StructureHeader; its strings, counted from 1, stand behind it, each with a zero, and one
// more zero ends it (6.1.3 "Text strings").
#pragma once

#include <array>
#include <cstddef>

#include "support/bytes.h"

namespace vhdkit::hypervisor::smbios {

// 5.2.1 "SMBIOS 2.1 (32-bit) Entry Point". Its bytes add up to 0 modulo 256, and so do those from
// the intermediate anchor on.
struct EntryPoint {
  std::array<char, 4> anchor;  // "_SM_"
  uint8_t checksum;
  uint8_t length;  // of this
  uint8_t major_version;
  uint8_t minor_version;
  le16 max_structure_bytes;  // strings included
  uint8_t revision;          // of the entry point: 0
  std::array<std::byte, 5> formatted_area;
  std::array<char, 5> intermediate_anchor;  // "_DMI_"
  uint8_t intermediate_checksum;
  le16 table_bytes;
  le32 table_address;
  le16 structure_count;
  uint8_t bcd_revision;
};
static_assert(OnDisk<EntryPoint> && sizeof(EntryPoint) == 0x1f &&
              offsetof(EntryPoint, intermediate_anchor) == 0x10 &&
              offsetof(EntryPoint, table_address) == 0x18);

// 6.1.2 "Structure header format".
struct StructureHeader {
  uint8_t type;
  uint8_t length;  // without the strings
  le16 handle;
};
static_assert(OnDisk<StructureHeader> && sizeof(StructureHeader) == 4);

// 7.1 "BIOS Information (Type 0)".
struct BiosInformation {
  StructureHeader header;
  uint8_t vendor;  // a string's number, as those that follow
  uint8_t version;
  le16 starting_segment;
  uint8_t release_date;
  uint8_t rom_size;  // (n + 1) * 64 KiB
  le64 characteristics;
  std::array<uint8_t, 2> more_characteristics;
  uint8_t major_release;  // ff: there are no such numbers
  uint8_t minor_release;
  uint8_t controller_major_release;
  uint8_t controller_minor_release;
};
static_assert(OnDisk<BiosInformation> && sizeof(BiosInformation) == 0x18);

// 7.1.1 "BIOS Characteristics": EDD is supported.
inline constexpr uint64_t supports_edd = uint64_t{1} << 19;
// 7.1.2.1, byte 1: ACPI is supported. 7.1.2.2, byte 2: the table describes a virtual machine.
inline constexpr uint8_t supports_acpi = 1 << 0;
inline constexpr uint8_t is_virtual_machine = 1 << 4;

// 7.2 "System Information (Type 1)".
struct SystemInformation {
  StructureHeader header;
  uint8_t manufacturer;
  uint8_t product;
  uint8_t version;
  uint8_t serial_number;
  std::array<std::byte, 16> uuid;  // zeroes: not present
  uint8_t wake_up_type;
  uint8_t sku;
  uint8_t family;
};
static_assert(OnDisk<SystemInformation> && sizeof(SystemInformation) == 0x1b);
inline constexpr uint8_t woken_by_power_switch = 6;

// 7.4 "System Enclosure or Chassis (Type 3)", as of 2.1.
struct Enclosure {
  StructureHeader header;
  uint8_t manufacturer;
  uint8_t type;
  uint8_t version;
  uint8_t serial_number;
  uint8_t asset_tag;
  uint8_t boot_up_state;
  uint8_t power_supply_state;
  uint8_t thermal_state;
  uint8_t security_status;
};
static_assert(OnDisk<Enclosure> && sizeof(Enclosure) == 0x0d);
inline constexpr uint8_t desktop = 3;
inline constexpr uint8_t state_safe = 3;
inline constexpr uint8_t security_none = 3;

// 7.33 "System Boot Information (Type 32)".
struct BootInformation {
  StructureHeader header;
  std::array<std::byte, 6> reserved;
  uint8_t status;  // 0: no errors
};
static_assert(OnDisk<BootInformation> && sizeof(BootInformation) == 0x0b);

inline constexpr uint8_t bios_information_type = 0;
inline constexpr uint8_t system_information_type = 1;
inline constexpr uint8_t enclosure_type = 3;
inline constexpr uint8_t boot_information_type = 32;
inline constexpr uint8_t end_of_table_type = 127;  // a header alone

}  // namespace vhdkit::hypervisor::smbios
