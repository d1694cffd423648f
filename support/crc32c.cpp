#include "support/crc32c.h"

#include <isa-l/crc.h>

#include <array>
#include <cassert>

namespace vhdkit {
namespace {

uint32_t extend(uint32_t state, std::span<const std::byte> bytes) {
  // isa-l takes a mutable pointer and an int length; it changes nothing.
  auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
  assert(bytes.size() <= size_t{1} << 30);
  return crc32_iscsi(data, int(bytes.size()), state);
}

}  // namespace

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t before) {
  return ~extend(~before, bytes);
}

uint32_t crc32c_without(std::span<const std::byte> bytes, size_t checksum_offset) {
  constexpr std::array<std::byte, 4> zeroes{};
  assert(checksum_offset + zeroes.size() <= bytes.size());
  uint32_t state = extend(~uint32_t{0}, bytes.first(checksum_offset));
  state = extend(state, zeroes);
  return ~extend(state, bytes.subspan(checksum_offset + zeroes.size()));
}

}  // namespace vhdkit
