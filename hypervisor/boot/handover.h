// What a kernel is given besides its own bytes, and where a loader leaves it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "hypervisor/boot/entry.h"
#include "hypervisor/boot/memory_map.h"
#include "hypervisor/kvm/guest_ram.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

// --- below 1 MiB, in memory that the guest is told is usable: it takes what it needs out of it
// before it uses the place for something else ---

inline constexpr uint64_t gdt_address = 0x1000;
inline constexpr uint64_t stack_end_address = 0x8000;
inline constexpr uint64_t boot_data_address = 0x8000;   // the zero page, or PVH's start info
inline constexpr uint64_t page_table_address = 0x9000;  // six pages
inline constexpr uint64_t command_line_address = 0x1'0000;
inline constexpr uint64_t command_line_limit = 0xffff;  // bytes, without the zero behind it

struct Handover {
  std::span<const std::byte> initrd;  // may be empty
  std::string_view command_line;
  uint64_t rsdp_address = 0;
  std::span<const MemoryRange> memory_map;
};

// Guest physical addresses, of which end is the first that does not belong.
struct AddressRange {
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t byte_count() const { return end - begin; }
  bool contains(uint64_t address) const { return address >= begin && address < end; }
};

// Where the RAM below the gap for devices ends: what is loaded lies below.
uint64_t low_ram_end(const GuestRam& ram);

// Errors: invalid_argument where the guest has too little memory for a kernel there.
Result<void> check_kernel_fits(const GuestRam& ram, AddressRange kernel);

// Puts it at command_line_address, with a zero behind it. limit: what this kernel takes, in bytes
// without that zero. Errors: invalid_argument (too long).
Result<void> write_command_line(GuestRam& ram, std::string_view command_line, uint64_t limit);

// Puts an initrd as high as can be, on a page's beginning, in low RAM above 1 MiB and beside the
// kernel. highest_end: of the initrd, as this kernel wants it.
// Returns: its address; 0 where the initrd is empty. Errors: invalid_argument (no room for it).
Result<uint64_t> write_initrd(GuestRam& ram, std::span<const std::byte> initrd, AddressRange kernel,
                              uint64_t highest_end);

// Put segment descriptors, and for long mode page tables that map the first 4 GiB one to one, where
// the entry that they return says.
Result<Entry> long_mode_entry(GuestRam& ram, uint64_t instruction);
Result<Entry> protected_mode_entry(GuestRam& ram, uint64_t instruction);

}  // namespace vhdkit::hypervisor
