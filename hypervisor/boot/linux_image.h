// Linux's compressed kernel, bzImage, by its 64-bit boot protocol.
#pragma once

#include "hypervisor/boot/handover.h"

namespace vhdkit::hypervisor {

// Whether a file begins as a bzImage does.
bool is_linux_image(std::span<const std::byte> kernel);

// Puts the kernel, its initrd, command line and zero page into RAM. Kernels from Linux 3.8 on
// (protocol 2.12), of 64 bits. The file may be longer than the kernel, as a signed one is. Where we
// know how the kernel is packed it is unpacked, and put to random addresses as its own code would
// do it, in a guest that is too small for that below where it prefers to be; else it lies there,
// and unpacks itself. Command line: with "nokaslr" no address is random, with "mem=", "memmap=" or
// "hugepages=" the one in memory is not.
//
// REQUIRES: is_linux_image(kernel); ram is all zeroes above 1 MiB.
// Errors: corrupt (a field contradicts the protocol or the file); unsupported (older or of 32
// bits); invalid_argument (the guest has too little memory, or the command line is too long).
// Spec: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".
Result<Entry> load_linux_image(GuestRam& ram, std::span<const std::byte> kernel,
                               const Handover& handover);

}  // namespace vhdkit::hypervisor
