#include "vsp-storage/storvsp/throttle.h"

#include <algorithm>

namespace vhdkit::storvsp {
namespace {

constexpr std::chrono::milliseconds longest_nap(20);

}  // namespace

Throttle::Throttle(Worker& timer, const Limits& limits, size_t line_count)
    : timer_(timer),
      is_limited_(limits.is_limited()),
      shaper_(limits, line_count),
      timer_letter_(*this) {}

void Throttle::set_limits(const Limits& limits) {
  const std::lock_guard lock(mutex_);
  shaper_.set_limits(limits);
  is_limited_ = limits.is_limited();
}

void Throttle::enqueue(size_t line, uint64_t bytes, const Waiter& waiter) {
  bool needs_timer = false;
  {
    const std::lock_guard lock(mutex_);
    shaper_.enqueue(line, bytes, waiter);
    needs_timer = !std::exchange(has_timer_, true);
    if (needs_timer) kept_ = shared_from_this();
  }
  if (needs_timer) timer_.mailbox().post(timer_letter_);
}

bool Throttle::admit_at_once(uint64_t bytes) {
  if (!is_limited_.load(std::memory_order_relaxed)) return true;
  const std::lock_guard lock(mutex_);
  return shaper_.take_at_once(bytes, Worker::Clock::now());
}

void Throttle::turn_away(size_t line, const void* client) {
  std::vector<Waiter> leaving;
  {
    const std::lock_guard lock(mutex_);
    leaving = shaper_.take_all(line, [client](const Waiter& waiter) {
      return client == nullptr || waiter.client == client;
    });
  }
  for (const Waiter& waiter : leaving) {
    *waiter.is_admitted = false;
    waiter.resumer->resume(waiter.coroutine);
  }
}

void Throttle::start_timer() { timer_.start(run_timer(std::move(kept_))); }

Async<void> Throttle::run_timer(std::shared_ptr<Throttle> throttle) {
  for (;;) {
    const auto next = throttle->let_go();
    if (!next) co_return Result<void>();
    // Limits change and lines are turned away meanwhile.
    const auto delay = std::min<Worker::Clock::duration>(*next - Worker::Clock::now(), longest_nap);
    co_await throttle->timer_.loop().sleep(delay);
  }
}

std::optional<Worker::Clock::time_point> Throttle::let_go() {
  std::vector<Waiter> going;
  std::optional<Worker::Clock::time_point> next;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Worker::Clock::now();
    while (const auto waiter = shaper_.take(now)) going.push_back(*waiter);
    next = shaper_.next_time();
    has_timer_ = next.has_value();
  }
  for (const Waiter& waiter : going) waiter.resumer->resume(waiter.coroutine);
  return next;
}

}  // namespace vhdkit::storvsp
