#include "disk/file_space.h"

#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "support/checked.h"

namespace vhdkit::disk {
namespace {

TEST_CASE("gaps are used before the file grows, and alignment leaves gaps") {
  FileSpace space(1 * MiB);
  space.use(4 * MiB, 1 * MiB);
  space.use(2 * MiB, 1 * MiB);
  CHECK(space.end() == 5 * MiB);
  CHECK(space.gap_bytes() == 2 * MiB);
  CHECK(space.take(2 * MiB, 1 * MiB) == 5 * MiB);
  CHECK(space.take(1 * MiB, 1 * MiB) == 1 * MiB);
  CHECK(space.take(512, 4096) == 3 * MiB);
  CHECK(space.take(4096, 4096) == 3 * MiB + 4096);
  CHECK(space.end() == 7 * MiB);
}

TEST_CASE("a place can be aligned by a byte within it, and small gaps are not searched") {
  FileSpace space(0, 1000);
  space.use(0, 100);
  CHECK(space.take(1512, 4096, 512) == 3584);
  CHECK(space.take(1512, 4096, 512) == 7680);
  CHECK(space.gap_bytes() == 3584 - 100 + 7680 - 3584 - 1512);
  // The gap before the first has room for neither; the second's own place fits again.
  space.give_back(7680, 1512);
  CHECK(space.end() == 3584 + 1512);
  space.give_back(3584, 1512);
  CHECK(space.end() == 100);
  CHECK(space.gap_bytes() == 0);
}

TEST_CASE("what is given back joins its neighbours and, at the end, shortens what is used") {
  FileSpace space(0);
  for (uint64_t i = 0; i < 5; ++i) CHECK(space.take(10, 1) == i * 10);
  space.give_back(10, 10);
  space.give_back(30, 10);
  CHECK(space.gap_bytes() == 20);
  space.give_back(20, 10);
  CHECK(space.take(30, 1) == 10);
  space.give_back(10, 30);
  space.give_back(40, 10);
  CHECK(space.end() == 10);
  CHECK(space.gap_bytes() == 0);
}

// Against the plainest model there is: a flag for each byte.
TEST_CASE("random taking and giving back never hands out a byte twice") {
  std::mt19937_64 random(1);
  FileSpace space(7);
  std::vector<bool> used(4000);
  std::vector<std::pair<uint64_t, uint64_t>> places;
  for (int step = 0; step < 5000; ++step) {
    if (random() % 2 == 0 || places.empty()) {
      const uint64_t length = 1 + random() % 20;
      const uint64_t alignment = uint64_t{1} << random() % 4;
      const uint64_t at = space.take(length, alignment);
      REQUIRE(at >= 7);
      REQUIRE(is_aligned(at, alignment));
      if (used.size() < at + length) used.resize(at + length);
      for (uint64_t i = at; i < at + length; ++i) {
        REQUIRE_FALSE(used[i]);
        used[i] = true;
      }
      places.emplace_back(at, length);
    } else {
      std::swap(places[random() % places.size()], places.back());
      const auto [at, length] = places.back();
      places.pop_back();
      space.give_back(at, length);
      for (uint64_t i = at; i < at + length; ++i) used[i] = false;
    }
    uint64_t end = 7;
    uint64_t count = 0;
    for (uint64_t i = 7; i < used.size(); ++i) {
      if (used[i]) end = i + 1;
      count += used[i] ? 1 : 0;
    }
    // A gap at the very end, left by an alignment, may still count as used.
    REQUIRE(space.end() >= end);
    REQUIRE(space.end() - 7 - space.gap_bytes() == count);
  }
}

}  // namespace
}  // namespace vhdkit::disk
