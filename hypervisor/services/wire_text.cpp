#include "hypervisor/services/wire_text.h"

#include <algorithm>
#include <vector>

#include "support/bytes.h"
#include "support/utf16.h"

namespace vhdkit::services {
namespace {

constexpr uint16_t replacement = 0xfffd;

bool is_high_surrogate(uint16_t unit) { return unit >= 0xd800 && unit < 0xdc00; }
bool is_low_surrogate(uint16_t unit) { return unit >= 0xdc00 && unit < 0xe000; }
// Terminals obey them, and JSON does not escape them.
bool is_upper_control(uint16_t unit) { return unit >= 0x7f && unit < 0xa0; }

}  // namespace

std::string utf8_of_wire(std::span<const std::byte> field) {
  std::vector<le16> units(field.size() / 2);
  std::ranges::copy(field.first(units.size() * 2),
                    std::as_writable_bytes(std::span(units)).begin());
  for (size_t i = 0; i < units.size(); ++i) {
    const bool begins_pair =
        is_high_surrogate(units[i]) && i + 1 < units.size() && is_low_surrogate(units[i + 1]);
    if (begins_pair) {
      ++i;
    } else if (is_high_surrogate(units[i]) || is_low_surrogate(units[i]) ||
               is_upper_control(units[i])) {
      units[i] = replacement;
    }
  }
  return utf16_to_utf8(std::as_bytes(std::span(units)), ByteOrder::little);
}

}  // namespace vhdkit::services
