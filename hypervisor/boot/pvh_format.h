// What a kernel finds that is entered by PVH: Xen's docs/misc/pvh.pandoc "x86/HVM direct boot ABI"
// and xen/include/public/arch-x86/hvm/start_info.h. Little-endian.
#pragma once

#include "support/bytes.h"

namespace vhdkit::hypervisor::pvh {

// An ELF note of this type and name has the entry's physical address, in 4 or 8 bytes.
inline constexpr uint32_t entry_note_type = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
inline constexpr char entry_note_name[] = "Xen";

struct StartInfo {
  le32 magic;
  le32 version;  // 1: with a memory map
  le32 flags;
  le32 module_count;
  le64 modules;       // address of the first Module; the first is Linux's initrd
  le64 command_line;  // address of a string that ends in a zero
  le64 rsdp;
  le64 memory_map;  // address of the first MemoryMapEntry
  le32 memory_map_entry_count;
  le32 reserved;
};
static_assert(OnDisk<StartInfo> && sizeof(StartInfo) == 56);
inline constexpr uint32_t start_info_magic = 0x336e'c578;
inline constexpr uint32_t start_info_version = 1;

struct Module {
  le64 address;
  le64 byte_count;
  le64 command_line;
  le64 reserved;
};
static_assert(OnDisk<Module> && sizeof(Module) == 32);

struct MemoryMapEntry {
  le64 address;
  le64 byte_count;
  le32 type;  // MemoryType
  le32 reserved;
};
static_assert(OnDisk<MemoryMapEntry> && sizeof(MemoryMapEntry) == 24);

}  // namespace vhdkit::hypervisor::pvh
