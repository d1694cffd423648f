// One task at a time, the others in the order in which they came.
#pragma once

#include <cassert>
#include <coroutine>
#include <deque>
#include <utility>

namespace vhdkit::async {

// Loop-bound. Outlives its guards and those who wait.
class Mutex {
 public:
  // Whoever holds it may go on; its end lets the next one in, at once.
  class [[nodiscard]] Guard {
   public:
    explicit Guard(Mutex& mutex) : mutex_(&mutex) {}
    Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (mutex_ != nullptr) mutex_->unlock();
    }

   private:
    Mutex* mutex_;
  };

  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  ~Mutex() { assert(!locked_); }

  // Awaitable: `const Mutex::Guard guard = co_await mutex.lock();`
  auto lock() {
    struct Awaiter {
      Mutex& mutex;
      bool await_ready() noexcept { return !std::exchange(mutex.locked_, true); }
      void await_suspend(std::coroutine_handle<> waiter) { mutex.waiters_.push_back(waiter); }
      Guard await_resume() noexcept { return Guard(mutex); }
    };
    return Awaiter{*this};
  }

 private:
  void unlock() {
    if (waiters_.empty()) {
      locked_ = false;
      return;
    }
    // It stays locked: it is the next one's now.
    const std::coroutine_handle<> next = waiters_.front();
    waiters_.pop_front();
    next.resume();
  }

  bool locked_ = false;
  std::deque<std::coroutine_handle<>> waiters_;
};

}  // namespace vhdkit::async
