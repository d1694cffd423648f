#include "vsp-storage/storvsp/shaper.h"

#include <doctest/doctest.h>

namespace vhdkit::storvsp {
namespace {

using namespace std::chrono_literals;
using TestShaper = Shaper<size_t>;
using Time = TestShaper::Time;

// Lines that keep `depth` requests of one size each in the queue, over simulated seconds; what each
// of them got.
struct Load {
  unsigned depth;
  uint64_t bytes;
};
std::vector<uint64_t> granted(TestShaper& shaper, const std::vector<Load>& loads, int seconds) {
  std::vector<uint64_t> counts(loads.size());
  for (size_t line = 0; line < loads.size(); ++line)
    for (unsigned i = 0; i < loads[line].depth; ++i) shaper.enqueue(line, loads[line].bytes, line);
  Time now{1000s};
  const Time end = now + std::chrono::seconds(seconds);
  while (now < end) {
    while (const auto line = shaper.take(now)) {
      ++counts[*line];
      shaper.enqueue(*line, loads[*line].bytes, *line);
    }
    // A timer that is up to a millisecond late.
    now = *shaper.next_time() + 1ms * (counts[0] % 2);
  }
  return counts;
}

bool is_within_5_percent(double value, double of) { return value > of * 0.95 && value < of * 1.05; }

TEST_CASE("requests and bytes a second are kept within 5 percent") {
  struct Case {
    Limits limits;
    uint64_t bytes;
    double expected;
  };
  const Case cases[] = {
      {{.requests_per_second = 500}, 4096, 500},
      {{.requests_per_second = 50'000}, 4096, 50'000},
      {{.bytes_per_second = 100 << 20}, 1 << 20, 100},
      {{.requests_per_second = 1000, .bytes_per_second = 1 << 20}, 4096, 256},
      {{.requests_per_second = 100, .bytes_per_second = 1 << 30}, 4096, 100},
  };
  for (const Case& tried : cases) {
    CAPTURE(tried.expected);
    TestShaper shaper(tried.limits, 1);
    const auto counts = granted(shaper, {{.depth = 32, .bytes = tried.bytes}}, 20);
    CHECK(is_within_5_percent(double(counts[0]) / 20, tried.expected));
  }
}

TEST_CASE("who comes again is kept to the limit as well, and goes behind those who wait") {
  TestShaper shaper({.requests_per_second = 500}, 1);
  Time now{1000s};
  unsigned count = 0;
  for (; now < Time{1010s}; now += 5ms)
    while (shaper.take_at_once(4096, now)) ++count;
  CHECK(is_within_5_percent(count / 10.0, 500));
  shaper.enqueue(0, 4096, 7);
  CHECK_FALSE(shaper.take_at_once(4096, now + 1s));
  CHECK(shaper.take(now + 1s) == 7);
  CHECK(shaper.take_at_once(4096, now + 1s));
}

TEST_CASE("lines share a limit evenly, however deep their queues are and whatever they move") {
  TestShaper by_depth({.requests_per_second = 3000}, 3);
  const auto same = granted(by_depth, {{1, 4096}, {32, 4096}, {256, 4096}}, 10);
  for (const uint64_t count : same) CHECK(is_within_5_percent(double(count), 10'000));
  TestShaper by_size({.bytes_per_second = 64 << 20}, 2);
  const auto bytes = granted(by_size, {{32, 4096}, {32, 256 << 10}}, 10);
  CHECK(is_within_5_percent(double(bytes[0] * 4096), 320 << 20));
  CHECK(is_within_5_percent(double(bytes[1]) * double(256 << 10), 320 << 20));
}

TEST_CASE("a line takes all that the others leave, and none saves up for later") {
  TestShaper shaper({.requests_per_second = 1000}, 2);
  const auto counts = granted(shaper, {{0, 4096}, {4, 4096}}, 10);
  CHECK(counts[0] == 0);
  CHECK(is_within_5_percent(double(counts[1]), 10'000));
  // After a pause of an hour only a moment's worth comes at once.
  Time now{10000s};
  for (int i = 0; i < 1000; ++i) shaper.enqueue(0, 4096, 0);
  int at_once = 0;
  while (shaper.take(now)) ++at_once;
  CHECK(at_once <= 25);
}

TEST_CASE("a limit that is changed holds from the next request on, and none means at once") {
  TestShaper shaper({.requests_per_second = 10}, 1);
  shaper.set_limits({});
  for (int i = 0; i < 1000; ++i) shaper.enqueue(0, 4096, 0);
  int at_once = 0;
  while (shaper.take(Time{5s})) ++at_once;
  CHECK(at_once == 1000);
  CHECK_FALSE(shaper.next_time());
}

TEST_CASE("a line gives all that waits and is meant, and the others stay") {
  TestShaper shaper({.requests_per_second = 10}, 2);
  for (const size_t request : {1, 2, 3}) shaper.enqueue(0, 4096, request);
  shaper.enqueue(1, 4096, 4);
  const auto is_odd = [](size_t request) { return request % 2 == 1; };
  const auto is_any = [](size_t) { return true; };
  CHECK(shaper.take_all(0, is_odd) == std::vector<size_t>{1, 3});
  CHECK(shaper.take_all(0, is_odd).empty());
  CHECK(shaper.take_all(0, is_any) == std::vector<size_t>{2});
  CHECK(shaper.take(Time{5s}) == 4);
  CHECK_FALSE(shaper.next_time());
}

}  // namespace
}  // namespace vhdkit::storvsp
