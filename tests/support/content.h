// Bytes of disks and files, made up and compared.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::tests {

using Content = std::vector<std::byte>;

inline Content random_bytes(size_t length, unsigned seed) {
  std::mt19937_64 random(seed);
  Content content(align_up(length, 8));
  for (size_t at = 0; at < content.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(content.data() + at, &word, 8);
  }
  content.resize(length);
  return content;
}

// Zeroes with `count` pieces of random bytes, each of 1 byte to 64 KiB, anywhere.
inline Content scattered(size_t length, unsigned count, unsigned seed) {
  std::mt19937_64 random(seed);
  Content content(length);
  for (unsigned i = 0; i < count; ++i) {
    const size_t start = random() % length;
    const Content piece =
        random_bytes(std::min(length - start, 1 + random() % (64 * KiB)), seed + i);
    std::ranges::copy(piece, content.begin() + ptrdiff_t(start));
  }
  return content;
}

// Pages of zeroes become holes of the file.
inline void put_file(const std::string& path, std::span<const std::byte> content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  for (size_t at = 0; at < content.size(); at += 4096) {
    const auto page = content.subspan(at, std::min<size_t>(4096, content.size() - at));
    if (is_zero(page)) continue;
    file.seekp(std::streamoff(at));
    file.write(reinterpret_cast<const char*>(page.data()), std::streamsize(page.size()));
  }
  file.close();
  REQUIRE(file);
  std::filesystem::resize_file(path, content.size());
}

inline Content file_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  REQUIRE(file.is_open());
  Content content(size_t(file.tellg()));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(content.data()), std::streamsize(content.size()));
  REQUIRE(file);
  return content;
}

// Where two contents differ first; the length of the shorter where one begins the other.
inline std::optional<size_t> difference(std::span<const std::byte> a,
                                        std::span<const std::byte> b) {
  const auto [at_a, at_b] = std::ranges::mismatch(a, b);
  if (at_a == a.end() && at_b == b.end()) return std::nullopt;
  return size_t(at_a - a.begin());
}

}  // namespace vhdkit::tests

// Requires equal bytes; says where they differ, not what they are.
#define REQUIRE_EQUAL(a, b)                                                         \
  do {                                                                              \
    const auto differs = vhdkit::tests::difference((a), (b));                       \
    INFO("first difference: ", differs ? std::to_string(*differs) : std::string()); \
    REQUIRE_FALSE(differs.has_value());                                             \
  } while (false)
