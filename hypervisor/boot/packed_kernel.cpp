#include "hypervisor/boot/packed_kernel.h"

#include "hypervisor/boot/unpack.h"
#include "hypervisor/kvm/memory_ahead.h"
#include "support/bytes.h"

namespace vhdkit::hypervisor {

std::optional<UnpackedKernel> unpack_kernel(std::span<const std::byte> payload,
                                            std::span<std::byte> room) {
  if (payload.size() < sizeof(le32)) return std::nullopt;
  const size_t packed_bytes = payload.size() - sizeof(le32);
  const auto unpacked_bytes = load<le32>(payload, packed_bytes);
  if (!unpacked_bytes || *unpacked_bytes > room.size()) return std::nullopt;
  // Nothing is put behind what gzip packs: the length that ends it is its own.
  const auto packed = is_gzip(payload) ? payload : payload.first(packed_bytes);
  const auto file = room.first(*unpacked_bytes);
  const MemoryAhead ahead({file});
  if (!unpack(packed, file) || !is_elf_file(file)) return std::nullopt;
  auto elf = read_elf_file(file);
  if (!elf) return std::nullopt;
  auto relocations = read_relocations(file.subspan(elf->byte_count));
  if (!relocations) return std::nullopt;
  return UnpackedKernel{
      .file = file, .elf = std::move(*elf), .relocations = std::move(*relocations)};
}

}  // namespace vhdkit::hypervisor
