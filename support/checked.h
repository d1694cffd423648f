// Arithmetic on numbers that come from outside: an overflow is a missing value, never a wrong one.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

namespace vhdkit {

template <std::unsigned_integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

template <std::unsigned_integral T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Whether [offset, offset + length) lies inside [0, size), without overflow.
constexpr bool range_fits(uint64_t offset, uint64_t length, uint64_t size) {
  return offset <= size && length <= size - offset;
}

constexpr bool is_power_of_two(uint64_t value) { return value != 0 && (value & (value - 1)) == 0; }

constexpr uint64_t ceil_div(uint64_t value, uint64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

// Next multiple of unit at or above value. REQUIRES: the result fits; check numbers from outside
// first.
constexpr uint64_t align_up(uint64_t value, uint64_t unit) { return ceil_div(value, unit) * unit; }
constexpr uint64_t align_down(uint64_t value, uint64_t unit) { return value - value % unit; }
constexpr bool is_aligned(uint64_t value, uint64_t unit) { return value % unit == 0; }

inline constexpr uint64_t KiB = 1024;
inline constexpr uint64_t MiB = 1024 * KiB;
inline constexpr uint64_t GiB = 1024 * MiB;
inline constexpr uint64_t TiB = 1024 * GiB;

}  // namespace vhdkit
