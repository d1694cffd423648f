#include "tools/histogram.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

namespace vhdkit::tools {

Histogram Histogram::from_json(const Json& entries) {
  Histogram histogram;
  if (!entries.is_array()) return histogram;
  for (const Json& entry : entries) {
    const auto below = number_in(entry, "below");
    const auto count = number_in(entry, "count");
    if (below && count && std::has_single_bit(*below))
      histogram.counts_[size_t(std::countr_zero(*below))] = *count;
  }
  return histogram;
}

uint64_t Histogram::total() const {
  uint64_t total = 0;
  for (const uint64_t count : counts_) total += count;
  return total;
}

std::optional<Histogram> Histogram::since(const Histogram& before) const {
  Histogram added;
  for (size_t i = 0; i < entry_count; ++i) {
    if (counts_[i] < before.counts_[i]) return std::nullopt;
    added.counts_[i] = counts_[i] - before.counts_[i];
  }
  return added;
}

std::optional<double> Histogram::percentile(double fraction) const {
  double total = 0;
  for (const uint64_t count : counts_) total += double(count);
  if (total == 0) return std::nullopt;
  double left = fraction * total;
  double value = 0;
  for (size_t i = 0; i < entry_count; ++i) {
    if (counts_[i] == 0) continue;
    const double begin = i == 0 ? 0 : std::ldexp(1, int(i) - 1);
    const double end = std::ldexp(1, int(i));
    const auto count = double(counts_[i]);
    if (left <= count) return begin + (end - begin) * left / count;
    left -= count;
    value = end;
  }
  return value;
}

std::string microseconds_text(double microseconds) {
  constexpr const char* units[] = {"us", "ms", "s"};
  double amount = microseconds;
  size_t unit = 0;
  while (amount >= 999.5 && unit + 1 < std::size(units)) {
    amount /= 1000;
    ++unit;
  }
  if (amount >= 999.5) return fmt::format("{:.0f} {}", amount, units[unit]);
  return fmt::format("{:.3g} {}", amount, units[unit]);
}

}  // namespace vhdkit::tools
