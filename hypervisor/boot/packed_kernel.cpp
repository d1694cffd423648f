#include "hypervisor/boot/packed_kernel.h"

#include <archive.h>

#include <memory>

#include "support/bytes.h"

namespace vhdkit::hypervisor {
namespace {

using Archive = std::unique_ptr<archive, decltype(&archive_read_free)>;

// Those of Linux's methods that the library has in itself: it would start programs for others.
bool knows_methods(archive* reader) {
  return archive_read_support_filter_gzip(reader) == ARCHIVE_OK &&
         archive_read_support_filter_bzip2(reader) == ARCHIVE_OK &&
         archive_read_support_filter_lzma(reader) == ARCHIVE_OK &&
         archive_read_support_filter_xz(reader) == ARCHIVE_OK &&
         archive_read_support_filter_lz4(reader) == ARCHIVE_OK &&
         archive_read_support_filter_zstd(reader) == ARCHIVE_OK &&
         archive_read_support_format_raw(reader) == ARCHIVE_OK;
}

// False, where it is packed otherwise or has another length.
bool unpack(std::span<const std::byte> packed, std::span<std::byte> unpacked) {
  const Archive reader(archive_read_new(), &archive_read_free);
  archive_entry* content = nullptr;
  if (reader == nullptr || !knows_methods(reader.get()) ||
      archive_read_open_memory(reader.get(), packed.data(), packed.size()) != ARCHIVE_OK ||
      archive_read_next_header(reader.get(), &content) != ARCHIVE_OK)
    return false;
  while (!unpacked.empty()) {
    const la_ssize_t count = archive_read_data(reader.get(), unpacked.data(), unpacked.size());
    if (count <= 0) return false;
    unpacked = unpacked.subspan(size_t(count));
  }
  std::byte more;
  return archive_read_data(reader.get(), &more, 1) == 0;
}

}  // namespace

std::optional<UnpackedKernel> unpack_kernel(std::span<const std::byte> payload,
                                            uint64_t max_bytes) {
  if (payload.size() < sizeof(le32)) return std::nullopt;
  const size_t packed_bytes = payload.size() - sizeof(le32);
  const auto unpacked_bytes = load<le32>(payload, packed_bytes);
  if (!unpacked_bytes || *unpacked_bytes > max_bytes) return std::nullopt;
  UnpackedKernel kernel{
      .file = std::vector<std::byte>(*unpacked_bytes), .elf = {}, .relocations = {}};
  if (!unpack(payload.first(packed_bytes), kernel.file) || !is_elf_file(kernel.file))
    return std::nullopt;
  auto elf = read_elf_file(kernel.file);
  if (!elf) return std::nullopt;
  kernel.elf = std::move(*elf);
  auto relocations = read_relocations(std::span(kernel.file).subspan(kernel.elf.byte_count));
  if (!relocations) return std::nullopt;
  kernel.relocations = std::move(*relocations);
  return kernel;
}

}  // namespace vhdkit::hypervisor
