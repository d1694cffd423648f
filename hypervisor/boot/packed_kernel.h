// The kernel that a bzImage carries packed. Its own code would unpack and move it when it begins;
// to do that here takes the guest a small part of the time, and leaves it the same kernel at
// addresses as random.
#pragma once

#include "hypervisor/boot/elf_file.h"
#include "hypervisor/boot/relocations.h"

namespace vhdkit::hypervisor {

struct UnpackedKernel {
  std::span<std::byte> file;  // an ELF file and, behind it, its relocations
  ElfFile elf;
  Relocations relocations;  // none: it stays where it was linked
};

// payload: as payload_offset and payload_length say; its last 4 bytes are the unpacked length.
// room: what it is unpacked into, from its beginning on.
//
// Returns: nothing, where the payload is packed by a method that we do not know, is longer than the
// room, or holds something else than expected: the kernel can still unpack itself. The room may
// have been written to.
// Spec: Documentation/arch/x86/boot.rst, "payload_offset"; scripts/Makefile.lib, "size_append".
std::optional<UnpackedKernel> unpack_kernel(std::span<const std::byte> payload,
                                            std::span<std::byte> room);

}  // namespace vhdkit::hypervisor
