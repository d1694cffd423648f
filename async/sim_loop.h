// A loop for tests: a seed chooses the order in which operations complete.
#pragma once

#include <cassert>
#include <functional>
#include <random>
#include <vector>

#include "async/loop.h"

namespace vhdkit::async {

// Loop-bound, as every loop. Knows no kernel: only simulated files run on it.
class SimLoop final : public Loop {
 public:
  explicit SimLoop(uint64_t seed) : random_(seed) {}
  ~SimLoop() override { assert(waiting_.empty()); }

  // Awaitable: goes on when the seed says so.
  auto turn() {
    struct Awaiter {
      SimLoop& loop;
      bool await_ready() noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) { loop.waiting_.push_back(waiter); }
      void await_resume() noexcept {}
    };
    return Awaiter{*this};
  }

  // Called before every step: each is a moment at which a machine may stop.
  void set_observer(std::function<void()> observer) { observer_ = std::move(observer); }

  std::mt19937_64& random() { return random_; }
  Engine engine() const override { return Engine::synchronous; }

 private:
  bool submit(Operation&) noexcept override {
    assert(false && "a file of the system on a simulated loop");
    return false;
  }

  void wait() override {
    assert(!waiting_.empty());  // else a task waits for something that nobody will complete
    if (observer_) observer_();
    std::swap(waiting_[random_() % waiting_.size()], waiting_.back());
    const std::coroutine_handle<> next = waiting_.back();
    waiting_.pop_back();
    next.resume();
  }

  void look() override {}  // the seed decides at wait()

  std::mt19937_64 random_;
  std::vector<std::coroutine_handle<>> waiting_;
  std::function<void()> observer_;
};

}  // namespace vhdkit::async
