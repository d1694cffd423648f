// What in a Linux kernel changes when it runs at another virtual address than it was linked for:
// the table that its build leaves behind the ELF file.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "hypervisor/boot/elf_file.h"

namespace vhdkit::hypervisor {

// Lists of places, each a virtual address as linked, of which the table has the lower 32 bits.
struct Relocations {
  std::vector<int32_t> added_64;       // 8 bytes, to which the distance is added
  std::vector<int32_t> subtracted_32;  // 4 bytes, relative to what does not move
  std::vector<int32_t> added_32;       // 4 bytes

  bool empty() const { return added_64.empty() && added_32.empty(); }
};

// table: all that stands behind the ELF file; may be empty. Up to Linux 6.14 it has three lists,
// from then on the first and the last; a zero stands before each.
//
// Returns: nothing where it is anything else.
// Spec: Linux, arch/x86/tools/relocs.c (emit_relocs) and arch/x86/boot/compressed/misc.c
// (handle_relocations).
std::optional<Relocations> read_relocations(std::span<const std::byte> table);

// Makes of the kernel, as linked, one that runs `distance` bytes higher.
//
// Returns: false where a place is not among the bytes of a segment; the file is of no use then.
bool relocate(std::span<std::byte> file, const ElfFile& elf, const Relocations& relocations,
              uint64_t distance);

}  // namespace vhdkit::hypervisor
