#include "support/utf16.h"

#include <cstdint>

namespace vhdkit {
namespace {

constexpr uint32_t replacement = 0xfffd;

uint32_t unit_at(std::span<const std::byte> bytes, size_t index, ByteOrder order) {
  const auto first = std::to_integer<uint32_t>(bytes[2 * index]);
  const auto second = std::to_integer<uint32_t>(bytes[2 * index + 1]);
  return order == ByteOrder::big ? first << 8 | second : second << 8 | first;
}

constexpr bool is_high_surrogate(uint32_t unit) { return unit >= 0xd800 && unit < 0xdc00; }
constexpr bool is_low_surrogate(uint32_t unit) { return unit >= 0xdc00 && unit < 0xe000; }

void append_utf8(std::string& text, uint32_t point) {
  const auto put = [&text](uint32_t byte) { text += char(byte); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xc0 | point >> 6);
    put(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    put(0xe0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3f));
    put(0x80 | (point & 0x3f));
  } else {
    put(0xf0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3f));
    put(0x80 | (point >> 6 & 0x3f));
    put(0x80 | (point & 0x3f));
  }
}

void append_unit(std::vector<std::byte>& bytes, uint32_t unit, ByteOrder order) {
  const std::byte high{uint8_t(unit >> 8)};
  const std::byte low{uint8_t(unit)};
  bytes.push_back(order == ByteOrder::big ? high : low);
  bytes.push_back(order == ByteOrder::big ? low : high);
}

// Takes one code point from text at `at`, which it moves on.
uint32_t next_point(std::string_view text, size_t& at) {
  const auto lead = uint8_t(text[at++]);
  if (lead < 0x80) return lead;
  const size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  if (lead < 0xc2 || lead > 0xf4 || text.size() - at < more) return replacement;
  uint32_t point = lead & (0x3fU >> more);
  for (size_t i = 0; i < more; ++i) {
    const auto next = uint8_t(text[at + i]);
    if ((next & 0xc0) != 0x80) return replacement;
    point = point << 6 | (next & 0x3f);
  }
  constexpr uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
  if (point < smallest[more] || point > 0x10ffff) return replacement;
  at += more;
  return point;
}

}  // namespace

std::string utf16_to_utf8(std::span<const std::byte> bytes, ByteOrder order) {
  std::string text;
  const size_t unit_count = bytes.size() / 2;
  for (size_t i = 0; i < unit_count; ++i) {
    uint32_t point = unit_at(bytes, i, order);
    if (point == 0) break;
    if (is_high_surrogate(point) && i + 1 < unit_count) {
      const uint32_t low = unit_at(bytes, i + 1, order);
      if (is_low_surrogate(low)) {
        point = 0x10000 + ((point & 0x3ff) << 10 | (low & 0x3ff));
        ++i;
      }
    }
    append_utf8(text, point);
  }
  return text;
}

std::vector<std::byte> utf8_to_utf16(std::string_view text, ByteOrder order) {
  std::vector<std::byte> bytes;
  for (size_t at = 0; at < text.size();) {
    const uint32_t point = next_point(text, at);
    if (point < 0x10000) {
      append_unit(bytes, point, order);
    } else {
      append_unit(bytes, 0xd800 + ((point - 0x10000) >> 10), order);
      append_unit(bytes, 0xdc00 + ((point - 0x10000) & 0x3ff), order);
    }
  }
  return bytes;
}

}  // namespace vhdkit
