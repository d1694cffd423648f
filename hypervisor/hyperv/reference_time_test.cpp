#include "hypervisor/hyperv/reference_time.h"

#include <doctest/doctest.h>

namespace vhdkit::hypervisor {
namespace {

TEST_CASE("counts of a TSC become times of 100 ns, from zero on") {
  // 2.5 GHz: 250 counts are 1 us.
  const TscScale scale(2'500'000'000, 1'000'000);
  CHECK(scale.ticks(1'000'000) == 0);
  // A scale of 64 bits is below the exact one by less than 1: what it says may be one short.
  CHECK(scale.ticks(1'000'000 + 2'500'000'000) >= 9'999'999);
  CHECK(scale.ticks(1'000'000 + 2'500'000'000) <= 10'000'000);
  const uint64_t year = 365ULL * 24 * 3600;
  const uint64_t ticks = scale.ticks(1'000'000 + year * 2'500'000'000);
  CHECK(ticks <= year * 10'000'000);
  CHECK(ticks >= year * 10'000'000 - year / 10);
  // 2^64 * 10^7 / (2.5 * 10^9) = 2^64 / 250
  CHECK(scale.scale() == 73'786'976'294'838'206);
}

TEST_CASE("the page has the scale at 8 and the offset at 16, and a sequence that is not 0") {
  const TscScale scale(1'000'000'000, 3'000'000'000);
  const ReferenceTscPage page = reference_tsc_page(scale);
  const auto bytes = bytes_of(page);
  CHECK(*load<le32>(bytes, 0) != 0);
  CHECK(*load<le64>(bytes, 8) == scale.scale());
  const auto offset = int64_t(uint64_t{*load<le64>(bytes, 16)});
  CHECK(offset <= -29'999'999);
  CHECK(offset >= -30'000'000);
}

TEST_CASE("counters that are not sound are said to be so") {
  CHECK(reference_tsc_page(std::nullopt).sequence == 0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
