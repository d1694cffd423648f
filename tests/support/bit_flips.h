// Damage of the smallest kind: one bit flipped in every byte of a structure, one byte at a time.
#pragma once

#include <array>

#include "async/memory_file.h"

namespace vhdkit::tests {

// Which bytes to damage. step: 1 for every byte; more where a long run of zeroes is all alike.
struct FlipRange {
  const char* structure;
  uint64_t file_offset;
  uint64_t length;
  uint64_t step = 1;
};

// Calls examine with a copy of the file for each byte. Which bit is flipped goes with its place, so
// that neighbours differ and a range of eight bytes has all of them.
template <class Examine>
void flip_each_byte(const async::MemoryFile& whole, const FlipRange& range,
                    const Examine& examine) {
  for (uint64_t at = range.file_offset; at < range.file_offset + range.length; at += range.step) {
    std::array<std::byte, 1> byte{};
    whole.fetch(at, byte);
    byte[0] ^= std::byte(1u << (at / range.step) % 8);
    async::MemoryFile damaged = whole;
    damaged.store(at, byte);
    examine(std::move(damaged), at);
  }
}

}  // namespace vhdkit::tests
