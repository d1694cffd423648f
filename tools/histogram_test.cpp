#include "tools/histogram.h"

#include <doctest/doctest.h>

namespace vhdkit::tools {
namespace {

Histogram histogram(const char* json) {
  return Histogram::from_json(Json::parse(json, nullptr, false));
}

TEST_CASE("percentiles are spread over the entry that they lie in") {
  // 100 between 64 and 127, 100 between 1024 and 2047.
  const Histogram two =
      histogram(R"([{"below": 128, "count": 100}, {"below": 2048, "count": 100}])");
  CHECK(two.total() == 200);
  CHECK(two.percentile(0.25) == doctest::Approx(96));
  CHECK(two.percentile(0.5) == doctest::Approx(128));
  CHECK(two.percentile(0.75) == doctest::Approx(1536));
  CHECK(two.percentile(1) == doctest::Approx(2048));
  CHECK(histogram(R"([{"below": 1, "count": 4}])").percentile(0.5) == doctest::Approx(0.5));
  CHECK_FALSE(Histogram().percentile(0.5));
}

TEST_CASE("what was added is what was counted in between") {
  const Histogram before = histogram(R"([{"below": 4, "count": 2}])");
  const Histogram now = histogram(R"([{"below": 4, "count": 5}, {"below": 64, "count": 1}])");
  const auto added = now.since(before);
  REQUIRE(added);
  CHECK(added->count(2) == 3);
  CHECK(added->count(6) == 1);
  CHECK(added->total() == 4);
  CHECK_FALSE(before.since(now));
}

TEST_CASE("what is no histogram is left out") {
  CHECK(histogram("3").total() == 0);
  CHECK(histogram("{}").total() == 0);
  CHECK(histogram("[1, null, {}, [], {\"below\": 4}, {\"count\": 4}]").total() == 0);
  CHECK(histogram(R"([{"below": 3, "count": 1}, {"below": 0, "count": 1}])").total() == 0);
  CHECK(histogram(R"([{"below": -4, "count": 1}, {"below": 4, "count": -1}])").total() == 0);
  CHECK(histogram(R"([{"below": 9223372036854775808, "count": 7}])").count(63) == 7);
}

TEST_CASE("times have three digits and their unit") {
  CHECK(microseconds_text(0) == "0 us");
  CHECK(microseconds_text(85) == "85 us");
  CHECK(microseconds_text(999.4) == "999 us");
  CHECK(microseconds_text(999.6) == "1 ms");
  CHECK(microseconds_text(1250) == "1.25 ms");
  CHECK(microseconds_text(3.1e6) == "3.1 s");
  CHECK(microseconds_text(4.2e9) == "4200 s");
}

}  // namespace
}  // namespace vhdkit::tools
