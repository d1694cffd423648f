// What the BIOS keeps below 1 MiB of the guest's memory: vectors, variables, its few instructions,
// the tables that kernels look for.
#pragma once

#include "hypervisor/boot/memory_map.h"
#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {

// --- addresses, guest physical ---

inline constexpr uint64_t vector_table_address = 0;  // 256 vectors: offset, segment
inline constexpr uint64_t boot_sector_address = 0x7c00;
// The extended BIOS data area, 1 KiB at the end of conventional memory.
inline constexpr uint64_t extended_data_address = conventional_end;
inline constexpr uint16_t extended_data_segment = conventional_end / 16;
inline constexpr uint64_t conventional_limit = 0xa'0000;

inline constexpr uint16_t bios_segment = 0xf000;
inline constexpr uint64_t smbios_address = 0xf'0000;
// Offsets in bios_segment.
inline constexpr uint16_t stub_offset = 0xe000;
inline constexpr uint16_t configuration_table_offset = 0xf000;  // of INT 15h, AH=C0h
inline constexpr uint16_t font_offset = 0xf010;                 // of INT 10h, AX=1130h: empty

// --- variables, from 0040:0000 on: RBIL, MEMORY.LST ---

namespace bios_data {
inline constexpr uint64_t serial_ports = 0x400;  // four words
inline constexpr uint64_t extended_data_segment = 0x40e;
inline constexpr uint64_t equipment = 0x410;
inline constexpr uint64_t memory_kib = 0x413;
inline constexpr uint64_t keyboard_flags = 0x417;
inline constexpr uint64_t keyboard_head = 0x41a;
inline constexpr uint64_t keyboard_tail = 0x41c;
inline constexpr uint64_t video_mode = 0x449;
inline constexpr uint64_t video_columns = 0x44a;
inline constexpr uint64_t video_page_bytes = 0x44c;
inline constexpr uint64_t cursor_positions = 0x450;  // of page 0: column, row
inline constexpr uint64_t cursor_shape = 0x460;
inline constexpr uint64_t video_port = 0x463;
inline constexpr uint64_t ticks = 0x46c;
inline constexpr uint64_t midnight = 0x470;  // ticks began anew since somebody asked
inline constexpr uint64_t disk_status = 0x474;
inline constexpr uint64_t disk_count = 0x475;
inline constexpr uint64_t keyboard_begin = 0x480;
inline constexpr uint64_t keyboard_end = 0x482;
inline constexpr uint64_t last_row = 0x484;
inline constexpr uint64_t character_height = 0x485;
}  // namespace bios_data

// RBIL, "INT 11": 80 columns in colour, one serial port, a floating-point unit, no floppy disk.
inline constexpr uint16_t equipment_word = 0x0222;

// The guest's memory map with what the BIOS itself takes. No more than a page's worth of ranges.
std::vector<MemoryRange> bios_memory_map(const GuestRam& ram);

// Writes all of it: vectors, variables, instructions, SMBIOS tables, and a reset vector. The
// clock's ticks are those since midnight. Returns: the offset in bios_segment of the first
// instruction: it sets interrupt controllers and timer up, and goes on at boot_sector_address with
// DL = 80h.
//
// REQUIRES: ram is as GuestRam::create() or clear() left it.
Result<uint16_t> write_low_memory(GuestRam& ram, uint8_t disk_count, uint32_t ticks);

}  // namespace vhdkit::hypervisor
