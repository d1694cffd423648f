#include "disk/in_flight.h"

#include <doctest/doctest.h>

#include <optional>

namespace vhdkit::disk {
namespace {

TEST_CASE("a moment has passed when all who had entered before it have left") {
  InFlight in_flight;
  std::optional<InFlight::Guard> before(in_flight.enter());
  const InFlight::Moment moment = in_flight.now();
  CHECK_FALSE(in_flight.has_passed(moment));
  std::optional<InFlight::Guard> after(in_flight.enter());
  CHECK_FALSE(in_flight.has_passed(moment));
  before.reset();
  CHECK(in_flight.has_passed(moment));  // whoever entered afterwards does not matter
  const InFlight::Moment later = in_flight.now();
  CHECK_FALSE(in_flight.has_passed(later));
  after.reset();
  CHECK(in_flight.has_passed(later));
  CHECK(in_flight.has_passed(moment));
}

TEST_CASE("with nobody in flight every moment has passed") {
  InFlight in_flight;
  for (int i = 0; i < 5; ++i) {
    const InFlight::Moment moment = in_flight.now();
    CHECK(in_flight.has_passed(moment));
  }
}

TEST_CASE("somebody who stays holds up all later moments too") {
  InFlight in_flight;
  std::optional<InFlight::Guard> stays(in_flight.enter());
  const InFlight::Moment first = in_flight.now();
  CHECK_FALSE(in_flight.has_passed(first));
  {
    const InFlight::Guard passing = in_flight.enter();
  }
  const InFlight::Moment second = in_flight.now();
  CHECK_FALSE(in_flight.has_passed(second));
  stays.reset();
  CHECK(in_flight.has_passed(first));
  CHECK(in_flight.has_passed(second));
}

}  // namespace
}  // namespace vhdkit::disk
