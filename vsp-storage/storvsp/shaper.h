// Decides when requests may go on that share a limit: no threads, no clock of its own.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace vhdkit::storvsp {

// 0: no limit.
struct Limits {
  uint64_t requests_per_second = 0;
  uint64_t bytes_per_second = 0;

  bool is_limited() const { return requests_per_second != 0 || bytes_per_second != 0; }
};

// Requests wait in lines, one for each unit. Whoever got least of late comes next, so that lines
// which want more than there is get the same time each, however deep their queues are.
//
// Not thread-safe; times never go backwards.
template <class Request>
class Shaper {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  using Duration = std::chrono::duration<double>;

  // What was not used for longer than that is lost: a unit that was idle cannot catch up.
  static constexpr Duration longest_credit = std::chrono::milliseconds(20);

  Shaper(const Limits& limits, size_t line_count) : limits_(limits), lines_(line_count) {}

  // Counts from then on.
  void set_limits(const Limits& limits) {
    limits_ = limits;
    free_at_ = Time();
  }

  void enqueue(size_t line, uint64_t bytes, Request request) {
    Line& joined = lines_[line];
    // Who comes back has no claim for the time that it was away.
    if (joined.waiting.empty()) joined.served = std::max(joined.served, served_least_);
    joined.waiting.push_back({bytes, std::move(request)});
    ++waiting_count_;
  }

  // The next request that may go on; nothing where all have to wait, see next_time().
  std::optional<Request> take(Time now) {
    if (waiting_count_ == 0 || now < free_at_) return std::nullopt;
    Line& line = *std::ranges::min_element(lines_, {}, [](const Line& candidate) {
      return candidate.waiting.empty() ? infinite : candidate.served;
    });
    Waiting next = std::move(line.waiting.front());
    line.waiting.pop_front();
    --waiting_count_;
    const Duration cost = cost_of(next.bytes);
    served_least_ = line.served;
    line.served += cost.count();
    charge(cost, now);
    return std::move(next.request);
  }

  // For a request that comes again instead of waiting: whether it may go on now, and then it
  // counts. Never while others wait.
  bool take_at_once(uint64_t bytes, Time now) {
    if (waiting_count_ > 0 || now < free_at_) return false;
    charge(cost_of(bytes), now);
    return true;
  }

  // Those who wait in the line and are meant, whenever they might have gone on.
  template <class IsMeant>
  std::vector<Request> take_all(size_t line, IsMeant is_meant) {
    std::vector<Request> taken;
    waiting_count_ -= std::erase_if(lines_[line].waiting, [&](const Waiting& waiting) {
      if (!is_meant(waiting.request)) return false;
      taken.push_back(waiting.request);
      return true;
    });
    return taken;
  }

  // When take() gives the next one; nothing where none waits.
  std::optional<Time> next_time() const {
    if (waiting_count_ == 0) return std::nullopt;
    return free_at_;
  }

 private:
  static constexpr double infinite = std::numeric_limits<double>::infinity();

  struct Waiting {
    uint64_t bytes;
    Request request;
  };
  struct Line {
    std::deque<Waiting> waiting;
    double served = 0;  // seconds of the limit
  };

  void charge(Duration cost, Time now) {
    const auto credit = std::chrono::duration_cast<Clock::duration>(longest_credit);
    free_at_ = std::max(free_at_, now - credit) + std::chrono::duration_cast<Clock::duration>(cost);
  }

  // How much of a second the request takes of what is allowed.
  Duration cost_of(uint64_t bytes) const {
    double seconds = 0;
    if (limits_.requests_per_second != 0) seconds = 1.0 / double(limits_.requests_per_second);
    if (limits_.bytes_per_second != 0)
      seconds = std::max(seconds, double(bytes) / double(limits_.bytes_per_second));
    return Duration(seconds);
  }

  Limits limits_;
  std::vector<Line> lines_;
  size_t waiting_count_ = 0;
  double served_least_ = 0;  // of the line that was served last, before it was
  Time free_at_{};
};

}  // namespace vhdkit::storvsp
