// UTF-16 as Windows stores paths: not always valid, so unpaired surrogates survive a round trip
// (WTF-8).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vhdkit {

enum class ByteOrder { little, big };

// The text up to the first zero character or the end; an odd last byte is ignored.
std::string utf16_to_utf8(std::span<const std::byte> bytes, ByteOrder order);

// Invalid UTF-8 becomes U+FFFD.
std::vector<std::byte> utf8_to_utf16(std::string_view text, ByteOrder order);

}  // namespace vhdkit
