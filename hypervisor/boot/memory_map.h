// What a guest is told of its address space: where RAM is, and which of it is not its own.
#pragma once

#include <cstdint>
#include <vector>

#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {

// --- below 1 MiB, as on a PC ---

// Usable up to here. Linux wants some of it for the code that its other processors begin with.
inline constexpr uint64_t conventional_end = 0x9'fc00;
// The firmware's own, up to 1 MiB: the ACPI tables, and code at platform::reset_vector.
inline constexpr uint64_t firmware_begin = 0xe'0000;
inline constexpr uint64_t acpi_tables_address = firmware_begin;
inline constexpr uint64_t extended_memory_begin = 0x10'0000;

// ACPI 6.5, table 15.4 "Address Range Types".
enum class MemoryType : uint32_t { usable = 1, reserved = 2 };

struct MemoryRange {
  uint64_t address = 0;  // guest physical
  uint64_t byte_count = 0;
  MemoryType type = MemoryType::usable;

  friend bool operator==(const MemoryRange&, const MemoryRange&) = default;
};

// In ascending order, without overlaps. What lies between them is no memory to the guest.
std::vector<MemoryRange> memory_map(const GuestRam& ram);

// Puts code at platform::reset_vector that has the keyboard controller reset the machine: it is
// where Linux jumps to, in real mode, when it reboots a hardware-reduced machine without EFI.
Result<void> write_reset_code(GuestRam& ram);

}  // namespace vhdkit::hypervisor
