// The methods by which Linux packs kernels.
#pragma once

#include <cstddef>
#include <span>

namespace vhdkit::hypervisor {

// Whether it says that it is packed by gzip.
bool is_gzip(std::span<const std::byte> packed);

// Fills `unpacked`. gzip, xz, lzma, zstd, and lz4 in Linux's framing.
//
// Returns: false where it is packed otherwise, damaged, or not as long.
bool unpack(std::span<const std::byte> packed, std::span<std::byte> unpacked);

}  // namespace vhdkit::hypervisor
