// What a disk may hold: for every sector the values that a read may find, with and without a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vhdkit::tests {

// Whoever changes a disk tells it here. A sector is 512 bytes whatever the disk's own are: that is
// what a crash does not tear. Each write has a value of its own, and each of its sectors holds the
// value together with the sector's number, so bytes of another place or of two writes are found
// out.
//
// A value is right unless a later write hid it: one that began when the value's write had
// completed, and that has completed itself (without a crash) or is durable (after one).
class DiskOracle {
 public:
  static constexpr uint64_t sector_bytes = 512;
  using Value = uint64_t;  // of a write; `zero` for zeroes
  static constexpr Value zero = 0;

  // The disk holds zeroes.
  explicit DiskOracle(uint64_t sector_count) : sectors_(sector_count) {}

  uint64_t sector_count() const { return sectors_.size(); }

  // A write or zeroing of [first, first + count) begins. Returns its name for complete() and
  // fail().
  size_t begin_write(uint64_t first, uint64_t count);
  size_t begin_zero(uint64_t first, uint64_t count);
  void complete(size_t change);
  // The same, of a write that was durable by itself.
  void complete_durably(size_t change);
  // It may have happened in any of its sectors, or may not.
  void fail(size_t change);
  size_t begin_flush();
  void complete_flush(size_t flush);

  // The bytes of a write's sectors from `first` on.
  void fill(size_t change, uint64_t first, std::span<std::byte> bytes) const;

  // Empty where the sector's bytes are right; else what is wrong with them.
  std::string judge(uint64_t sector, std::span<const std::byte> bytes, bool after_crash) const;

  // The machine stopped and the disk was found to hold these bytes, all right ones: from now on
  // they are durable.
  void settle(uint64_t first, std::span<const std::byte> bytes);

 private:
  static constexpr uint64_t never = UINT64_MAX;
  struct Change {
    Value value;
    uint64_t first;
    uint64_t count;
    uint64_t began;
    uint64_t ended = never;  // completed or failed
    uint64_t completed = never;
    uint64_t durable = never;
  };
  struct Known {
    Value value = zero;
    uint64_t completed = 0;  // when it was there for sure
  };
  // One sector: what was known last, and the changes since.
  struct Sector {
    Known base;
    std::vector<size_t> changes;
  };

  size_t begin(Value value, uint64_t first, uint64_t count);
  void forget_hidden(uint64_t sector);
  bool admits(const Sector& sector, Value value, bool after_crash) const;
  static std::optional<Value> value_of(uint64_t sector, std::span<const std::byte> bytes);

  std::vector<Sector> sectors_;
  std::vector<Change> changes_;
  std::vector<uint64_t> flushes_;  // when each began
  std::vector<size_t> undurable_;
  uint64_t clock_ = 1;
};

}  // namespace vhdkit::tests
