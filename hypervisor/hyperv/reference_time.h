// The partition's clock: 100 ns since it began, from the processors' time stamp counters.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "support/bytes.h"

namespace vhdkit::hypervisor {

// How counts of a TSC become reference time: (tsc * scale >> 64) + offset. TLFS, "Reference TSC".
class TscScale {
 public:
  // tsc_hz: not 0. at_zero: the count when reference time was 0.
  TscScale(uint64_t tsc_hz, uint64_t at_zero);

  uint64_t ticks(uint64_t tsc) const { return scaled(tsc) + uint64_t(offset_); }
  uint64_t scale() const { return scale_; }
  int64_t offset() const { return offset_; }

 private:
  uint64_t scaled(uint64_t tsc) const;

  uint64_t scale_;
  int64_t offset_;
};

// TLFS, "Reference TSC Page". A sequence of 0 says that the counter's register must be read
// instead.
struct ReferenceTscPage {
  le32 sequence;
  le32 reserved;
  le64 scale;
  le64 offset;
};
static_assert(OnDisk<ReferenceTscPage>);

// scale: nothing where the counters are not sound.
ReferenceTscPage reference_tsc_page(const std::optional<TscScale>& scale);

}  // namespace vhdkit::hypervisor
