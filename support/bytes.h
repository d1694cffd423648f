// On-disk and on-wire integers: their byte order is in their type, their alignment is 1.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>

namespace vhdkit {

// An unsigned integer as it lies in a file. Converts from and to the machine's integer.
template <std::unsigned_integral T, std::endian Order>
class Stored {
 public:
  Stored() = default;
  Stored(T value) {  // NOLINT(google-explicit-constructor): it is the integer, stored
    const T ordered = Order == std::endian::native ? value : swapped(value);
    std::memcpy(bytes_.data(), &ordered, sizeof ordered);
  }
  operator T() const {  // NOLINT(google-explicit-constructor)
    T value;
    std::memcpy(&value, bytes_.data(), sizeof value);
    return Order == std::endian::native ? value : swapped(value);
  }

 private:
  static T swapped(T value) {
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  }
  std::array<std::byte, sizeof(T)> bytes_;
};

using le16 = Stored<uint16_t, std::endian::little>;
using le32 = Stored<uint32_t, std::endian::little>;
using le64 = Stored<uint64_t, std::endian::little>;
using be16 = Stored<uint16_t, std::endian::big>;
using be32 = Stored<uint32_t, std::endian::big>;
using be64 = Stored<uint64_t, std::endian::big>;

// A struct that may be copied from and to file bytes: no padding, no alignment, no pointers.
template <class T>
concept OnDisk = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
                 alignof(T) == 1 && std::has_unique_object_representations_v<T>;

// The struct at byte_offset of bytes; nothing where it does not fit.
template <OnDisk T>
std::optional<T> load(std::span<const std::byte> bytes, size_t byte_offset = 0) {
  if (byte_offset > bytes.size() || bytes.size() - byte_offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + byte_offset, sizeof value);
  return value;
}

// The struct's own bytes, for writing, checksums and tests.
template <OnDisk T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}
template <OnDisk T>
std::span<std::byte> writable_bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

// Whether every byte is zero, at the speed of memory.
bool is_zero(std::span<const std::byte> bytes);

}  // namespace vhdkit
