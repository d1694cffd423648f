// From the files of a kernel and its initrd to a guest that can begin.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "hypervisor/boot/entry.h"
#include "hypervisor/kvm/guest_ram.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

struct BootImage {
  std::span<const std::byte> kernel;  // a bzImage or an ELF file
  std::span<const std::byte> initrd;  // may be empty
  std::string command_line;
  unsigned vp_count = 1;
};

// What every way to boot wants of the machine. Errors: invalid_argument (too much memory, too many
// processors).
Result<void> check_machine(const GuestRam& ram, unsigned vp_count);

// Puts the kernel, its initrd and command line, the memory map and the ACPI tables into RAM. The
// image is not needed afterwards.
//
// REQUIRES: ram is as GuestRam::create() or clear() left it.
// Errors: corrupt, unsupported (the kernel); invalid_argument (too little or too much memory, too
// many processors, a command line that is too long). The caller names the file.
Result<Entry> load_kernel(GuestRam& ram, const BootImage& image);

}  // namespace vhdkit::hypervisor
