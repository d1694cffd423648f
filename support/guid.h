// A 128-bit identifier, kept in the order in which people write it.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace vhdkit {

// The identifier as it lies in a VHDX: its first three groups little-endian (Microsoft's GUID).
struct StoredGuid {
  std::array<std::byte, 16> bytes;
};

class Guid {
 public:
  constexpr Guid() = default;  // all zero, "no identifier"

  // From bytes in the order of the text form, as VHD 1.0 stores them.
  static Guid from_big_endian(std::span<const std::byte, 16> bytes);
  static Guid from_stored(const StoredGuid& stored);
  static Guid random();  // version 4, from the kernel's random numbers

  // Accepts 8-4-4-4-12 hexadecimal digits of either case, with or without braces.
  static std::optional<Guid> parse(std::string_view text);
  // For constants of the specification, checked when compiled.
  static consteval Guid literal(const char (&text)[37]) {
    Guid guid;
    size_t nibble = 0;
    for (char c : text) {
      if (c == '-' || c == '\0') continue;
      const unsigned value = c <= '9' ? unsigned(c - '0') : unsigned((c | 0x20) - 'a' + 10);
      if (value > 15) throw "not a hexadecimal digit";
      guid.bytes_[nibble / 2] |= std::byte(value << (nibble % 2 == 0 ? 4 : 0));
      ++nibble;
    }
    if (nibble != 32) throw "a GUID has 32 digits";
    return guid;
  }

  StoredGuid stored() const;
  std::span<const std::byte, 16> big_endian() const { return bytes_; }
  std::string to_string() const;  // lower case, no braces
  bool is_zero() const { return *this == Guid(); }

  friend bool operator==(const Guid&, const Guid&) = default;
  friend auto operator<=>(const Guid&, const Guid&) = default;

 private:
  std::array<std::byte, 16> bytes_{};
};

}  // namespace vhdkit
