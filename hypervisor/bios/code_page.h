// What the characters of a PC's screen look like to a terminal of today.
#pragma once

#include <cstdint>
#include <string_view>

namespace vhdkit::hypervisor {

// A character of code page 437 in UTF-8. The control characters are the pictures that they show on
// a screen; 0 and 255 are blanks.
std::string_view utf8_of(uint8_t character);

}  // namespace vhdkit::hypervisor
