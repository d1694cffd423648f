// Histograms as a runner reports them: how often something took so long, by powers of two.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "tools/json.h"

namespace vhdkit::tools {

// Entry 0 counts zeroes, entry n what lies from 2^(n-1) to 2^n - 1.
class Histogram {
 public:
  static constexpr size_t entry_count = 64;

  // From a list of {"below": 2^n, "count": N}. What is something else is left out.
  static Histogram from_json(const Json& entries);

  uint64_t count(size_t entry) const { return counts_[entry]; }
  uint64_t total() const;
  // What was added to `before`, which is an earlier state. Nothing: it is none.
  std::optional<Histogram> since(const Histogram& before) const;
  // Which value that fraction of all lies below, taking what an entry counts as spread evenly over
  // it: right but for a factor of two. Nothing: it is empty.
  std::optional<double> percentile(double fraction) const;

 private:
  std::array<uint64_t, entry_count> counts_{};
};

// "85 us", "1.25 ms", "3.1 s": three significant digits.
std::string microseconds_text(double microseconds);

}  // namespace vhdkit::tools
