// ACPI's tables as they lie in memory: ACPI 6.5, chapter 5. Little-endian. Each table but the RSDP
// begins with TableHeader, and all its bytes add up to 0 modulo 256.
#pragma once

#include <array>
#include <cstddef>

#include "support/bytes.h"

namespace vhdkit::hypervisor::acpi {

// 5.2.5.3 "Root System Description Pointer (RSDP) Structure".
struct Rsdp {
  std::array<char, 8> signature;  // "RSD PTR "
  uint8_t checksum;               // of the first 20 bytes
  std::array<char, 6> oem_id;
  uint8_t revision;  // 2
  le32 rsdt_address;
  le32 length;
  le64 xsdt_address;
  uint8_t extended_checksum;  // of all
  std::array<std::byte, 3> reserved;
};
static_assert(OnDisk<Rsdp> && sizeof(Rsdp) == 36 && offsetof(Rsdp, xsdt_address) == 24);
inline constexpr size_t rsdp_checksummed_bytes = 20;

// 5.2.6 "System Description Table Header".
struct TableHeader {
  std::array<char, 4> signature;
  le32 length;  // of the table, with this header
  uint8_t revision;
  uint8_t checksum;
  std::array<char, 6> oem_id;
  std::array<char, 8> oem_table_id;
  le32 oem_revision;
  std::array<char, 4> creator_id;
  le32 creator_revision;
};
static_assert(OnDisk<TableHeader> && sizeof(TableHeader) == 36);

// 5.2.3.2 "Generic Address Structure".
struct GenericAddress {
  uint8_t address_space;  // 1: system I/O
  uint8_t bit_width;
  uint8_t bit_offset;
  uint8_t access_size;  // 1: a byte
  le64 address;
};
static_assert(OnDisk<GenericAddress> && sizeof(GenericAddress) == 12);
inline constexpr uint8_t system_io_space = 1;
inline constexpr uint8_t byte_access = 1;

// 5.2.9 "Fixed ACPI Description Table (FADT)". What a hardware-reduced machine does not have is not
// told apart here.
struct Fadt {
  TableHeader header;  // "FACP", revision 6
  le32 firmware_control;
  le32 dsdt;
  uint8_t reserved;
  uint8_t preferred_pm_profile;
  std::array<std::byte, 63> fixed_hardware;  // SCI_INT to CENTURY
  le16 boot_architecture_flags;
  uint8_t reserved2;
  le32 flags;
  GenericAddress reset_register;
  uint8_t reset_value;
  le16 arm_boot_architecture_flags;
  uint8_t minor_version;
  le64 extended_firmware_control;
  le64 extended_dsdt;
  std::array<GenericAddress, 8> extended_fixed_hardware;  // X_PM1a_EVT_BLK to X_GPE1_BLK
  GenericAddress sleep_control_register;
  GenericAddress sleep_status_register;
  le64 hypervisor_vendor_identity;
};
static_assert(OnDisk<Fadt> && sizeof(Fadt) == 276 &&
              offsetof(Fadt, boot_architecture_flags) == 109 &&
              offsetof(Fadt, reset_register) == 116 && offsetof(Fadt, extended_dsdt) == 140 &&
              offsetof(Fadt, sleep_control_register) == 244);

// Table 5.10 "Fixed ACPI Description Table Fixed Feature Flags".
namespace fadt_flags {
inline constexpr uint32_t wbinvd_works = 1 << 0;
inline constexpr uint32_t c1_on_all_processors = 1 << 2;
inline constexpr uint32_t no_fixed_power_button = 1 << 4;
inline constexpr uint32_t no_fixed_sleep_button = 1 << 5;
inline constexpr uint32_t no_fixed_rtc_wake = 1 << 6;
inline constexpr uint32_t has_reset_register = 1 << 10;
inline constexpr uint32_t hardware_reduced = 1 << 20;
}  // namespace fadt_flags

// Table 5.11 "IA-PC Boot Architecture Flags". Neither ISA devices nor a keyboard controller are
// claimed.
namespace boot_architecture_flags {
inline constexpr uint16_t no_vga = 1 << 2;
inline constexpr uint16_t no_cmos_rtc = 1 << 5;
}  // namespace boot_architecture_flags

// 5.2.12 "Multiple APIC Description Table (MADT)". Its structures follow.
struct Madt {
  TableHeader header;  // "APIC", revision 6
  le32 local_apic_address;
  le32 flags;  // bit 0: there are 8259s as well
};
static_assert(OnDisk<Madt> && sizeof(Madt) == 44);

// 5.2.12.2 "Processor Local APIC Structure".
struct LocalApic {
  uint8_t type;    // 0
  uint8_t length;  // of this structure
  uint8_t processor_uid;
  uint8_t apic_id;
  le32 flags;  // bit 0: enabled
};
static_assert(OnDisk<LocalApic> && sizeof(LocalApic) == 8);
inline constexpr uint8_t local_apic_type = 0;
inline constexpr uint32_t local_apic_enabled = 1 << 0;

// 5.2.12.3 "I/O APIC Structure".
struct IoApic {
  uint8_t type;    // 1
  uint8_t length;  // of this structure
  uint8_t io_apic_id;
  uint8_t reserved;
  le32 address;
  le32 first_interrupt;  // GSI of its first input
};
static_assert(OnDisk<IoApic> && sizeof(IoApic) == 12);
inline constexpr uint8_t io_apic_type = 1;

}  // namespace vhdkit::hypervisor::acpi
