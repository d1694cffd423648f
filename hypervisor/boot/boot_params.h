// What a Linux kernel's file says to its loader, and what the loader leaves for the kernel.
// Documentation/arch/x86/boot.rst "The Real-Mode Kernel Header", zero-page.rst. Little-endian.
#pragma once

#include <array>
#include <cstddef>

#include "support/bytes.h"

namespace vhdkit::hypervisor::linux_boot {

// At this offset of a bzImage and of the zero page.
inline constexpr size_t setup_header_offset = 0x1f1;
// The zero page has no room for more of it than up to here.
inline constexpr size_t setup_header_limit = 0x290;
// Where the magic number lies in the file.
inline constexpr size_t magic_offset = 0x202;

// As of protocol 2.15. An older kernel's is shorter: `jump` says where it ends.
struct SetupHeader {
  uint8_t setup_sectors;  // of 512 bytes, behind the boot sector; 0 means 4
  le16 root_flags;
  le32 code_paragraphs;  // of 16 bytes: the protected-mode part
  le16 ram_size;
  le16 video_mode;
  le16 root_device;
  le16 boot_flag;
  uint8_t jump_opcode;  // 0xeb
  uint8_t jump_distance;
  le32 magic;  // "HdrS"
  le16 version;
  le32 real_mode_switch;
  le16 start_system_segment;
  le16 kernel_version;
  uint8_t type_of_loader;
  uint8_t load_flags;
  le16 setup_move_size;
  le32 code32_start;
  le32 ramdisk_image;
  le32 ramdisk_size;
  le32 boot_sector_kludge;
  le16 heap_end;
  uint8_t extended_loader_version;
  uint8_t extended_loader_type;
  le32 command_line_address;
  le32 initrd_address_max;  // of its last byte
  le32 kernel_alignment;
  uint8_t relocatable_kernel;
  uint8_t min_alignment;
  le16 extended_load_flags;
  le32 command_line_size;  // at most, without the zero behind it
  le32 hardware_subarchitecture;
  le64 hardware_subarchitecture_data;
  le32 payload_offset;
  le32 payload_length;
  le64 setup_data;
  le64 preferred_address;
  le32 init_size;  // bytes that the kernel needs from where it runs, before it knows its memory
  le32 handover_offset;
  le32 kernel_info_offset;
};
static_assert(OnDisk<SetupHeader> && sizeof(SetupHeader) == 0x26c - setup_header_offset &&
              offsetof(SetupHeader, magic) == magic_offset - setup_header_offset &&
              offsetof(SetupHeader, ramdisk_image) == 0x218 - setup_header_offset &&
              offsetof(SetupHeader, command_line_address) == 0x228 - setup_header_offset &&
              offsetof(SetupHeader, preferred_address) == 0x258 - setup_header_offset);

inline constexpr uint16_t boot_flag = 0xaa55;
inline constexpr uint32_t magic = 0x5372'6448;
inline constexpr uint8_t jump_opcode = 0xeb;
inline constexpr uint16_t version_2_12 = 0x020c;
// The shortest header that a kernel of 2.12 can have: up to handover_offset.
inline constexpr size_t header_end_2_12 = 0x268;

inline constexpr uint8_t loaded_high = 1 << 0;           // load_flags
inline constexpr uint8_t is_at_random_address = 1 << 1;  // load_flags: KASLR_FLAG
inline constexpr uint16_t has_64_bit_entry = 1 << 0;     // extended_load_flags
inline constexpr uint64_t entry_64_offset = 0x200;       // into the protected-mode part
inline constexpr uint64_t default_load_address = 0x10'0000;
inline constexpr uint8_t undefined_loader = 0xff;  // type_of_loader
inline constexpr uint16_t normal_video_mode = 0xffff;

// KERNEL_IMAGE_SIZE: a kernel that runs at a random address lies in so much of its mapping.
// Documentation/arch/x86/x86_64/mm.rst.
inline constexpr uint64_t kernel_mapping_bytes = uint64_t{1} << 30;

// What x86's Linux takes, whatever its version, where no header says so.
inline constexpr uint32_t usual_command_line_size = 2047;
inline constexpr uint32_t usual_initrd_address_max = 0x7fff'ffff;

struct E820Entry {
  le64 address;
  le64 byte_count;
  le32 type;  // MemoryType
};
static_assert(OnDisk<E820Entry> && sizeof(E820Entry) == 20);

// The zero page.
struct BootParams {
  std::array<std::byte, 0x70> screen_info;
  le64 rsdp_address;
  std::array<std::byte, 0x170> obsolete_and_efi;
  uint8_t e820_entry_count;
  std::array<std::byte, 8> reserved;
  SetupHeader header;
  std::array<std::byte, setup_header_limit - setup_header_offset - sizeof(SetupHeader)> header_tail;
  std::array<std::byte, 0x40> disk_signatures;
  std::array<E820Entry, 128> e820;
  std::array<std::byte, 0x330> reserved2;
};
static_assert(OnDisk<BootParams> && sizeof(BootParams) == 4096 &&
              offsetof(BootParams, rsdp_address) == 0x70 &&
              offsetof(BootParams, e820_entry_count) == 0x1e8 &&
              offsetof(BootParams, header) == setup_header_offset &&
              offsetof(BootParams, e820) == 0x2d0);

}  // namespace vhdkit::hypervisor::linux_boot
