// Keys of a PC's keyboard, out of what a terminal sends.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace vhdkit::hypervisor {

struct Key {
  uint8_t scan_code = 0;
  uint8_t character = 0;  // 0: none
  // A key that the first PCs had not: who asks for those has E0h for its character.
  bool is_extended = false;

  friend bool operator==(const Key&, const Key&) = default;
};

// A US keyboard. Not thread-safe.
class KeyDecoder {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // How long an escape that might begin a sequence waits for the rest of it.
  static constexpr std::chrono::milliseconds patience{50};
  static constexpr size_t max_waiting = 64;  // bytes

  size_t room() const { return max_waiting - waiting_.size(); }
  // REQUIRES: not more than there is room for.
  void take(std::span<const std::byte> typed, Time now);
  // The next key, taken off; nothing where none is whole. Bytes that no key has are dropped.
  std::optional<Key> next(Time now);

 private:
  std::string waiting_;
  Time last_typed_;
};

}  // namespace vhdkit::hypervisor
