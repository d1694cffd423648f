// Where a loaded kernel begins, and what it expects to find in the first processor's registers.
#pragma once

#include <cstdint>

namespace vhdkit::hypervisor {

struct Entry {
  enum class Mode : uint8_t {
    // 64-bit mode, pages mapped one to one, flat segments 0x10 (code) and 0x18 (data), interrupts
    // off: Linux's 64-bit boot protocol (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
    long_mode,
    // 32-bit protected mode without paging, flat segments, interrupts off: the PVH entry (Xen's
    // "x86/HVM direct boot ABI").
    protected_mode,
    // Real mode, interrupts off, all segments but CS zero: firmware.
    real_mode,
  };
  Mode mode = Mode::long_mode;
  uint64_t instruction = 0;  // guest physical address of the first one; real mode: below 1 MiB
  uint64_t boot_data = 0;    // rsi in long mode, ebx in protected mode
  uint64_t stack = 0;        // rsp
  uint64_t gdt = 0;          // guest physical address: null, null, code (0x10), data (0x18)
  uint16_t gdt_bytes = 0;    // its length
  uint64_t page_table = 0;   // cr3; long mode only
};

}  // namespace vhdkit::hypervisor
