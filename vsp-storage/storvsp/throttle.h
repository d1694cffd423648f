// A limit on what a unit moves, or several units together (a storage resource pool).
#pragma once

#include <coroutine>
#include <memory>
#include <mutex>

#include "vsp-storage/storvsp/shaper.h"
#include "vsp-storage/storvsp/worker.h"

namespace vhdkit::storvsp {

// Thread-safe, and always shared: its timer keeps it for a moment after nobody waits any more. The
// worker, whose loop has the timer, and everybody's resumer outlive it; it outlives who waits.
class Throttle : public std::enable_shared_from_this<Throttle> {
 public:
  // line_count: the units that share it.
  Throttle(Worker& timer, const Limits& limits, size_t line_count);

  // Who waits goes on under the new ones.
  void set_limits(const Limits& limits);

  // Who waits in the line goes on now, and learns that it must not begin. client: only those who
  // came with it; null for all.
  void turn_away(size_t line, const void* client = nullptr);

  // Awaitable: goes on when a transfer of that many bytes may begin, on the resumer's loop. False:
  // it was turned away. client: for turn_away(), not followed.
  auto admit(size_t line, uint64_t bytes, scsi::Resumer& resumer, const void* client) {
    struct Awaiter {
      Throttle& throttle;
      Waiter waiter;
      size_t line;
      uint64_t bytes;
      bool is_admitted = true;
      bool await_ready() const noexcept {
        return !throttle.is_limited_.load(std::memory_order_relaxed);
      }
      void await_suspend(std::coroutine_handle<> coroutine) {
        waiter.coroutine = coroutine;
        waiter.is_admitted = &is_admitted;
        throttle.enqueue(line, bytes, waiter);
      }
      bool await_resume() noexcept { return is_admitted; }
    };
    return Awaiter{*this, {nullptr, &resumer, client, nullptr}, line, bytes};
  }

  // For who comes again instead of waiting: whether a transfer of that many bytes may begin now,
  // and then it counts. Never while others wait.
  bool admit_at_once(uint64_t bytes);

 private:
  struct Waiter {
    std::coroutine_handle<> coroutine;
    scsi::Resumer* resumer;
    const void* client;
    bool* is_admitted;
  };

  void enqueue(size_t line, uint64_t bytes, const Waiter& waiter);
  void start_timer();
  static Async<void> run_timer(std::shared_ptr<Throttle> throttle);
  // Lets go on who may; when to look again.
  std::optional<Worker::Clock::time_point> let_go();

  Worker& timer_;
  std::atomic<bool> is_limited_;
  std::mutex mutex_;
  Shaper<Waiter> shaper_;
  bool has_timer_ = false;          // or will have
  std::shared_ptr<Throttle> kept_;  // by the letter to its timer
  async::LetterTo<Throttle, &Throttle::start_timer> timer_letter_;
};

}  // namespace vhdkit::storvsp
