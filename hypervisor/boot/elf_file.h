// A kernel's ELF file: what of it goes into memory, where, and where it begins.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "hypervisor/boot/handover.h"

namespace vhdkit::hypervisor {

struct ElfSegment {
  AddressRange place;  // between 1 MiB and mmio_gap_begin
  uint64_t file_offset = 0;
  uint64_t file_bytes = 0;  // at its beginning; the rest is zeroes
};

struct ElfFile {
  std::vector<ElfSegment> segments;   // in the order of their addresses; not empty; none overlap
  uint64_t entry = 0;                 // guest physical; perhaps in no segment
  std::optional<uint64_t> pvh_entry;  // of a note XEN_ELFNOTE_PHYS32_ENTRY; likewise
  uint64_t byte_count = 0;            // of the file, as far as it speaks of itself

  AddressRange place() const {
    return {.begin = segments.front().place.begin, .end = segments.back().place.end};
  }
};

// Whether a file begins as ELF files do.
bool is_elf_file(std::span<const std::byte> file);

// REQUIRES: is_elf_file(file).
// Errors: corrupt (a header, segment or note that the file contradicts; segments that overlap);
// unsupported (not for x86-64).
// Spec: System V ABI, "Object Files" and "Program Loading".
Result<ElfFile> read_elf_file(std::span<const std::byte> file);

// Puts the segments into RAM, each `shift` bytes (modulo 2^64) above its place.
// REQUIRES: ram is all zeroes there. Errors: out_of_range (no RAM is there).
Result<void> write_segments(GuestRam& ram, const ElfFile& elf, std::span<const std::byte> file,
                            uint64_t shift);

// The same for a file that lies in RAM itself, which its segments then take the room of.
// REQUIRES: ram is all zeroes beside the file.
// Returns: false where one would be written over others that are still to be moved, or no RAM is
// there.
bool move_segments(GuestRam& ram, const ElfFile& elf, std::span<std::byte> file, uint64_t shift);

// Errors: corrupt, where the first instruction would be in no segment.
Result<void> check_entry(const ElfFile& elf, uint64_t entry);

}  // namespace vhdkit::hypervisor
