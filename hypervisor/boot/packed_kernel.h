// The kernel that a bzImage carries packed. Its own code would unpack and move it when it begins;
// to do that here takes the guest a small part of the time, and leaves it the same kernel at
// addresses as random.
#pragma once

#include <memory>

#include "hypervisor/boot/elf_file.h"
#include "hypervisor/boot/relocations.h"

namespace vhdkit::hypervisor {

struct UnpackedKernel {
  explicit UnpackedKernel(size_t file_bytes)
      : bytes(std::make_unique_for_overwrite<std::byte[]>(file_bytes)), byte_count(file_bytes) {}
  // An ELF file and, behind it, its relocations.
  std::span<std::byte> file() const { return {bytes.get(), byte_count}; }

  std::unique_ptr<std::byte[]> bytes;
  size_t byte_count;
  ElfFile elf;
  Relocations relocations;  // none: it stays where it was linked
};

// payload: as payload_offset and payload_length say; its last 4 bytes are the unpacked length.
// max_bytes: of the unpacked file.
//
// Returns: nothing, where the payload is packed by a method that we do not know, is longer than it
// may be, or holds something else than expected: the kernel can still unpack itself.
// Spec: Documentation/arch/x86/boot.rst, "payload_offset"; scripts/Makefile.lib, "size_append".
std::optional<UnpackedKernel> unpack_kernel(std::span<const std::byte> payload, uint64_t max_bytes);

}  // namespace vhdkit::hypervisor
