#include "support/guid.h"

#include <sys/random.h>

#include <algorithm>
#include <cassert>

namespace vhdkit {
namespace {

// Text position i of the identifier lies at byte stored_position[i] of Microsoft's form.
constexpr std::array<size_t, 16> stored_position = {3, 2, 1,  0,  5,  4,  7,  6,
                                                    8, 9, 10, 11, 12, 13, 14, 15};

constexpr bool dash_before(size_t byte_index) {
  return byte_index == 4 || byte_index == 6 || byte_index == 8 || byte_index == 10;
}

std::optional<unsigned> digit_value(char c) {
  if (c >= '0' && c <= '9') return unsigned(c - '0');
  const char lower = char(c | 0x20);
  if (lower >= 'a' && lower <= 'f') return unsigned(lower - 'a' + 10);
  return std::nullopt;
}

}  // namespace

Guid Guid::from_big_endian(std::span<const std::byte, 16> bytes) {
  Guid guid;
  std::ranges::copy(bytes, guid.bytes_.begin());
  return guid;
}

Guid Guid::from_stored(const StoredGuid& stored) {
  Guid guid;
  for (size_t i = 0; i < 16; ++i) guid.bytes_[i] = stored.bytes[stored_position[i]];
  return guid;
}

StoredGuid Guid::stored() const {
  StoredGuid stored;
  for (size_t i = 0; i < 16; ++i) stored.bytes[stored_position[i]] = bytes_[i];
  return stored;
}

Guid Guid::random() {
  Guid guid;
  [[maybe_unused]] const ssize_t got = getrandom(guid.bytes_.data(), guid.bytes_.size(), 0);
  assert(got == ssize_t(guid.bytes_.size()));  // up to 256 bytes are never cut short
  guid.bytes_[6] = (guid.bytes_[6] & std::byte{0x0f}) | std::byte{0x40};
  guid.bytes_[8] = (guid.bytes_[8] & std::byte{0x3f}) | std::byte{0x80};
  return guid;
}

std::optional<Guid> Guid::parse(std::string_view text) {
  if (text.size() == 38 && text.front() == '{' && text.back() == '}') text = text.substr(1, 36);
  if (text.size() != 36) return std::nullopt;
  Guid guid;
  size_t at = 0;
  for (size_t i = 0; i < 16; ++i) {
    if (dash_before(i) && text[at++] != '-') return std::nullopt;
    const auto high = digit_value(text[at]);
    const auto low = digit_value(text[at + 1]);
    if (!high || !low) return std::nullopt;
    guid.bytes_[i] = std::byte(*high << 4 | *low);
    at += 2;
  }
  return guid;
}

std::string Guid::to_string() const {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < 16; ++i) {
    if (dash_before(i)) text += '-';
    text += digits[std::to_integer<size_t>(bytes_[i]) >> 4];
    text += digits[std::to_integer<size_t>(bytes_[i]) & 15];
  }
  return text;
}

}  // namespace vhdkit
