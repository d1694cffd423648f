#include "hypervisor/hyperv/reference_time.h"

namespace vhdkit::hypervisor {
namespace {

__extension__ using uint128_t = unsigned __int128;

constexpr uint64_t ticks_per_second = 10'000'000;

}  // namespace

TscScale::TscScale(uint64_t tsc_hz, uint64_t at_zero)
    : scale_(uint64_t((uint128_t{ticks_per_second} << 64) / tsc_hz)), offset_(0) {
  offset_ = -int64_t(scaled(at_zero));
}

uint64_t TscScale::scaled(uint64_t tsc) const { return uint64_t(uint128_t{tsc} * scale_ >> 64); }

ReferenceTscPage reference_tsc_page(const std::optional<TscScale>& scale) {
  ReferenceTscPage page{};
  if (!scale) return page;
  page.sequence = 1;
  page.scale = scale->scale();
  page.offset = uint64_t(scale->offset());
  return page;
}

}  // namespace vhdkit::hypervisor
