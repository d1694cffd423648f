#include "hypervisor/runner/iso.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace vhdkit::hypervisor {
namespace {

constexpr uint32_t block_bytes = 2048;
// Sixteen blocks are the system's own; the recognition sequence follows.
constexpr uint64_t first_descriptor_offset = 16 * block_bytes;
// The identifier stands behind the descriptor's type.
constexpr size_t identifier_offset = 1;
constexpr std::array<std::string_view, 4> identifiers = {"CD001", "BEA01", "NSR02", "NSR03"};

}  // namespace

Async<void> check_medium(disk::Disk& disk) {
  const disk::Geometry& geometry = disk.geometry();
  if (geometry.logical_sector_bytes > block_bytes)
    co_return fail(Errc::unsupported, "has larger sectors than an optical medium");
  std::array<std::byte, block_bytes> descriptor{};
  if (geometry.size_bytes >= first_descriptor_offset + block_bytes)
    CO_TRY(co_await disk.read(first_descriptor_offset, std::span<std::byte>(descriptor)));
  const std::string_view text(reinterpret_cast<const char*>(descriptor.data()), descriptor.size());
  const std::string_view identifier = text.substr(identifier_offset, identifiers[0].size());
  if (std::ranges::find(identifiers, identifier) == identifiers.end())
    co_return fail(Errc::corrupt,
                   "is no ISO image: neither an ISO 9660 nor a UDF volume begins in it");
  co_return Result<void>();
}

}  // namespace vhdkit::hypervisor
