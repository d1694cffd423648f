// Texts in messages: UTF-16 with a zero behind it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace vhdkit::services {

// The text up to its zero or the end, as valid UTF-8: what is no UTF-16 becomes U+FFFD, and an odd
// last byte is ignored.
std::string utf8_of_wire(std::span<const std::byte> field);

}  // namespace vhdkit::services
