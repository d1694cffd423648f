// Texts in messages: UTF-16 with a zero behind it.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace vhdkit::services {

// The text up to its zero or the end, as valid UTF-8: what is no UTF-16 becomes U+FFFD, and an odd
// last byte is ignored.
std::string utf8_of_wire(std::span<const std::byte> field);

// With the zero.
size_t wire_text_bytes(std::string_view text);
// Returns: wire_text_bytes(). The rest of the field stays as it is. REQUIRES: they have room.
size_t put_wire_text(std::string_view text, std::span<std::byte> field);

}  // namespace vhdkit::services
