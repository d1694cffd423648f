// What fuzzers share: a sparse file from a compact input, and coroutines without a loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "async/memory_file.h"
#include "support/bytes.h"

namespace vhdkit::fuzz {

// Ends the program, also where assertions are off: the fuzzer found something.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not true: %s\n", what);
  std::abort();
}

// Runs a task that never suspends, since all its files are in memory.
template <class T>
T run(async::Task<T> task) {
  task.start();
  require(task.done(), "a task on files in memory is done at once");
  return task.take();
}

// Takes values from an input's front; a short input ends in zeroes.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(std::as_bytes(std::span(data, size))) {}

  bool empty() const { return rest_.empty(); }
  std::span<const std::byte> rest() const { return rest_; }
  std::span<const std::byte> take(size_t length) {
    const auto taken = rest_.first(std::min(length, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  template <OnDisk T>
  T take_value() {
    T value{};
    std::ranges::copy(take(sizeof value), writable_bytes_of(value).begin());
    return value;
  }

 private:
  std::span<const std::byte> rest_;
};

// Chunks until the input ends: page (le16, of 4 KiB), offset in the page (le16, its low 12 bits),
// length (one byte), bytes.
inline void store_chunks(Input& input, async::MemoryFile& file) {
  while (!input.empty()) {
    const uint64_t page = input.take_value<le16>();
    const uint64_t in_page = input.take_value<le16>() % async::MemoryFile::page_bytes;
    const auto length = std::to_integer<size_t>(input.take_value<std::byte>());
    file.store(page * async::MemoryFile::page_bytes + in_page, input.take(length));
  }
}

}  // namespace vhdkit::fuzz
