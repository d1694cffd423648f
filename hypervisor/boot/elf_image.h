// A kernel as an ELF file: Linux's vmlinux, and whatever else is entered by PVH.
#pragma once

#include "hypervisor/boot/handover.h"

namespace vhdkit::hypervisor {

// Puts the file's segments at their physical addresses, the initrd and the command line into RAM.
// A kernel with a PVH entry (a note XEN_ELFNOTE_PHYS32_ENTRY) finds PVH's start info and is entered
// there, in protected mode; without it the file is entered at its entry point, in long mode, with
// a zero page as Linux's 64-bit boot protocol has it.
//
// REQUIRES: is_elf_file(kernel); ram is all zeroes above 1 MiB.
// Errors: those of read_elf_file(); corrupt (an entry point in no segment); invalid_argument (the
// guest has too little memory, or the command line is too long).
// Spec: Xen's docs/misc/pvh.pandoc.
Result<Entry> load_elf_image(GuestRam& ram, std::span<const std::byte> kernel,
                             const Handover& handover);

}  // namespace vhdkit::hypervisor
