// Damage of the smallest kind: one bit flipped in every byte of a structure, one byte at a time.
#pragma once

#include <array>

#include "async/memory_file.h"
#include "disk/finding.h"
#include "disk/layer.h"
#include "tests/support/await.h"

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

// check: the format's, as libvhd::check().
template <class Check>
uint64_t finding_count(async::MemoryFile& file, const Check& check) {
  disk::Findings findings;
  disk::BlockUsage usage;
  REQUIRE_OK(await(check(file, findings, usage)));
  return findings.total();
}

// Resolves as much as can be of what was opened, and holds what is served against the file.
inline void require_inside_file(const Result<std::unique_ptr<disk::Layer>>& opened) {
  if (!opened || !await((*opened)->audit())) return;
  const uint64_t file_bytes = (*opened)->file().size_bytes();
  const uint64_t disk_bytes = (*opened)->geometry().size_bytes;
  disk::ExtentList extents;
  if (disk_bytes == 0 || !await((*opened)->resolve(0, disk_bytes, extents))) return;
  bool are_inside = true;
  for (const disk::Extent& extent : extents)
    if (extent.kind == disk::ExtentKind::data)
      are_inside = are_inside && extent.file_offset + extent.length <= file_bytes;
  REQUIRE(are_inside);
}

}  // namespace vhdkit::tests
