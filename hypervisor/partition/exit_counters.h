// How often a guest left its processors, and why.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

namespace vhdkit::hypervisor {

enum class ExitCause : uint8_t {
  port,
  memory,
  register_read,
  register_write,
  hypercall,
  signal,
  kicked,
  other
};
inline constexpr std::array<std::string_view, 8> exit_cause_names{
    "port", "memory", "register-read", "register-write", "hypercall", "signal", "kicked", "other"};

using ExitCounts = std::array<uint64_t, exit_cause_names.size()>;  // by cause

inline void add(const ExitCounts& more, ExitCounts& counts) {
  for (size_t i = 0; i < counts.size(); ++i) counts[i] += more[i];
}

// One thread counts, any may read.
class ExitCounters {
 public:
  void count(ExitCause cause) {
    auto& counter = counters_[size_t(cause)];
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  ExitCounts counts() const {
    ExitCounts counts{};
    for (size_t i = 0; i < counts.size(); ++i)
      counts[i] = counters_[i].load(std::memory_order_relaxed);
    return counts;
  }

 private:
  std::array<std::atomic<uint64_t>, exit_cause_names.size()> counters_{};
};

}  // namespace vhdkit::hypervisor
