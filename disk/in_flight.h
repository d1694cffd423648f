// Who may still use a place of the file that was given up.
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <utility>

namespace vhdkit::disk {

// Loop-bound. Requests enter before they look where their bytes are. A place that no table names
// from some moment on is nobody's when all who had entered before that moment have left. Two
// counters are enough: time goes on to the next period only when the last one's requests are gone.
class InFlight {
 public:
  class [[nodiscard]] Guard {
   public:
    explicit Guard(uint64_t& count) : count_(&count) { ++count; }
    Guard(Guard&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (count_ != nullptr) --*count_;
    }

   private:
    uint64_t* count_;
  };
  using Moment = uint64_t;

  InFlight() = default;
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  ~InFlight() { assert(counts_[0] == 0 && counts_[1] == 0); }

  Guard enter() { return Guard(counts_[period_ % 2]); }

  Moment now() const { return period_; }
  // Whether all who had entered by then have left.
  bool has_passed(Moment moment) {
    if (period_ == moment && counts_[(period_ + 1) % 2] == 0) ++period_;
    return period_ > moment + 1 || (period_ == moment + 1 && counts_[moment % 2] == 0);
  }

 private:
  std::array<uint64_t, 2> counts_{};
  uint64_t period_ = 0;
};

}  // namespace vhdkit::disk
