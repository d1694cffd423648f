#include "support/bytes.h"

namespace vhdkit {

bool is_zero(std::span<const std::byte> bytes) {
  // Most data betrays itself in its first bytes; only what passes is worth the long look.
  constexpr size_t probe_bytes = 16;
  const size_t probed = bytes.size() < probe_bytes ? bytes.size() : probe_bytes;
  for (size_t i = 0; i < probed; ++i)
    if (bytes[i] != std::byte{0}) return false;
  if (bytes.size() == probed) return true;
  // A buffer that equals itself one probe further on repeats its first bytes for ever: all zero.
  return std::memcmp(bytes.data(), bytes.data() + probed, bytes.size() - probed) == 0;
}

}  // namespace vhdkit
