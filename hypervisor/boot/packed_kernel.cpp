#include "hypervisor/boot/packed_kernel.h"

#include "hypervisor/boot/unpack.h"
#include "support/bytes.h"

namespace vhdkit::hypervisor {

std::optional<UnpackedKernel> unpack_kernel(std::span<const std::byte> payload,
                                            uint64_t max_bytes) {
  if (payload.size() < sizeof(le32)) return std::nullopt;
  const size_t packed_bytes = payload.size() - sizeof(le32);
  const auto unpacked_bytes = load<le32>(payload, packed_bytes);
  if (!unpacked_bytes || *unpacked_bytes > max_bytes) return std::nullopt;
  UnpackedKernel kernel(*unpacked_bytes);
  const auto file = kernel.file();
  if (!unpack(payload.first(packed_bytes), file) || !is_elf_file(file)) return std::nullopt;
  auto elf = read_elf_file(file);
  if (!elf) return std::nullopt;
  kernel.elf = std::move(*elf);
  auto relocations = read_relocations(file.subspan(kernel.elf.byte_count));
  if (!relocations) return std::nullopt;
  kernel.relocations = std::move(*relocations);
  return kernel;
}

}  // namespace vhdkit::hypervisor
