#include "hypervisor/boot/packed_kernel.h"

#include <algorithm>
#include <array>

#include "hypervisor/boot/unpack.h"
#include "hypervisor/kvm/memory_ahead.h"
#include "support/bytes.h"

namespace vhdkit::hypervisor {

namespace {

// Linux puts the length behind what it packs, "to mimic the GZIP's trailer", whose own one that is.
bool is_gzip(std::span<const std::byte> payload) {
  constexpr std::array magic = {std::byte{0x1f}, std::byte{0x8b}};
  return payload.size() >= magic.size() && std::ranges::equal(payload.first(magic.size()), magic);
}

}  // namespace

std::optional<UnpackedKernel> unpack_kernel(std::span<const std::byte> payload,
                                            std::span<std::byte> room) {
  if (payload.size() < sizeof(le32)) return std::nullopt;
  const size_t packed_bytes = payload.size() - sizeof(le32);
  const auto unpacked_bytes = load<le32>(payload, packed_bytes);
  if (!unpacked_bytes || *unpacked_bytes > room.size()) return std::nullopt;
  const auto file = room.first(*unpacked_bytes);
  const MemoryAhead ahead({file});
  if (!unpack(is_gzip(payload) ? payload : payload.first(packed_bytes), file) || !is_elf_file(file))
    return std::nullopt;
  auto elf = read_elf_file(file);
  if (!elf) return std::nullopt;
  auto relocations = read_relocations(file.subspan(elf->byte_count));
  if (!relocations) return std::nullopt;
  return UnpackedKernel{
      .file = file, .elf = std::move(*elf), .relocations = std::move(*relocations)};
}

}  // namespace vhdkit::hypervisor
