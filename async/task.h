// Coroutines of this project: Async<T> is a lazy Task<Result<T>> with one waiter.
//
// A Task starts when it is awaited and belongs to one Loop's thread. A Task with I/O in flight is
// never destroyed: stop intake, await what runs, then close. Buffers belong to the caller until the
// await returns.
//
// g++ 12 mishandles some await expressions, so: one await per statement, its arguments are names,
// scalars or spans; no braces and no lambdas between `co_await` and `;`; no lambda coroutines.
// scripts/lint checks it.
#pragma once

#include <cassert>
#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "async/frame_pool.h"
#include "support/result.h"

namespace vhdkit::async {

template <class T>
class Task;

namespace detail {

struct PromiseBase : PooledFrame {
  std::coroutine_handle<> waiter;

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
      // The waiter may destroy this frame: nothing of it is touched afterwards.
      if (std::coroutine_handle<> next = self.promise().waiter) next.resume();
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  template <class U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() noexcept {}
};

}  // namespace detail

template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    Handle child;
    bool await_ready() noexcept { return false; }
    // Runs the child first and suspends only if it did: immediate completions cost no stack.
    bool await_suspend(std::coroutine_handle<> waiter) noexcept {
      child.resume();
      if (child.done()) return false;
      child.promise().waiter = waiter;
      return true;
    }
    T await_resume() {
      if constexpr (!std::is_void_v<T>) return std::move(*child.promise().value);
    }
  };
  Awaiter operator co_await() && noexcept { return Awaiter{handle_}; }

  // For the Loop and TaskGroup: start without waiting, then ask, or name who is resumed at its end.
  void start() { handle_.resume(); }
  bool done() const { return handle_.done(); }
  void set_waiter(std::coroutine_handle<> waiter) {
    assert(!done());
    handle_.promise().waiter = waiter;
  }
  T take() {
    assert(done());
    if constexpr (!std::is_void_v<T>) return std::move(*handle_.promise().value);
  }

 private:
  Handle handle_;
};

template <class T>
Task<T> detail::Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> detail::Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}

template <class T>
using Async = Task<Result<T>>;

// What is known already. A function that has nothing to await itself, but to check something or to
// choose whom to ask, returns this or that one's task, and needs no frame of its own.
template <class T>
Task<T> ready(T value) {
  co_return std::move(value);
}

}  // namespace vhdkit::async

namespace vhdkit {
using async::Async;
}
