// One thread's event loop over io_uring: the place where every transfer of this project is
// submitted.
//
// Where the kernel refuses io_uring (ENOSYS, seccomp), the same operations run one after another
// with preadv and pwritev, and nothing above notices. VHDKIT_ENGINE=sync asks for that.
#pragma once

#include <linux/time_types.h>
#include <sys/uio.h>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <memory>

#include "async/task.h"

namespace vhdkit::async {

enum class Engine { automatic, io_uring, synchronous };

// One kernel operation. Lives in the awaiting coroutine's frame, so submitting allocates nothing.
struct Operation {
  enum class Kind : uint8_t { read, write, write_durable, fsync, fdatasync, poll, sleep };
  Kind kind;
  int descriptor;
  const iovec* vectors = nullptr;
  unsigned vector_count = 0;
  uint64_t file_offset = 0;      // bytes
  __kernel_timespec delay = {};  // sleep
  // Copies a few pages and waits for no device: while nothing but such is in flight, a call does it
  // in less time than handing it to the kernel's workers and being woken by them.
  bool is_short = false;

  // Bytes moved, events (poll), or -errno. EAGAIN is none that another attempt mends: what the ring
  // would not wait for was done by a call that waits.
  int result = 0;
  std::coroutine_handle<> waiter;
  Operation* next = nullptr;
};

// A coroutine that goes on at the loop's next turn. Lives in whatever waits.
struct Turn {
  std::coroutine_handle<> waiter;
  Turn* next = nullptr;
};

// Loop-bound: create, use and destroy it on one thread.
class Loop {
 public:
  struct Options {
    Engine engine = Engine::automatic;
    unsigned slot_count = 64;  // operations in flight; further ones queue in order
  };

  static Result<std::unique_ptr<Loop>> create(Options options);
  static Result<std::unique_ptr<Loop>> create() { return create(Options()); }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  virtual ~Loop() = default;

  // Runs the task, and whatever it starts, to its end. Not reentrant.
  template <class T>
  T run(Task<T> task) {
    task.start();
    while (!task.done()) take_turn();
    return task.take();
  }

  // Resumes the waiter once what has completed by now was seen to, before the loop waits for more:
  // what several completions share is done once for all of them.
  void resume_next_turn(Turn& turn) noexcept {
    turn.next = nullptr;
    (first_turn_ == nullptr ? first_turn_ : last_turn_->next) = &turn;
    last_turn_ = &turn;
  }

  // Awaitable: goes on at the next turn. Who waits so again and again keeps the loop awake.
  auto turn() {
    struct Awaiter {
      Loop& loop;
      Turn turn{};
      bool await_ready() noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiter) noexcept {
        turn.waiter = waiter;
        loop.resume_next_turn(turn);
      }
      void await_resume() noexcept {}
    };
    return Awaiter{*this};
  }

  // Awaitable: resumes with operation.result set. The operation outlives the await.
  auto perform(Operation& operation) {
    struct Awaiter {
      Loop& loop;
      Operation& operation;
      bool await_ready() noexcept { return false; }
      bool await_suspend(std::coroutine_handle<> waiter) noexcept {
        operation.waiter = waiter;
        return loop.submit(operation);
      }
      int await_resume() noexcept { return operation.result; }
    };
    return Awaiter{*this, operation};
  }

  // Ends once there is something to read from the descriptor, or it is in error. One task at a time
  // waits so. With the synchronous engine everything else waits meanwhile.
  Task<void> readable(int descriptor);
  // With the synchronous engine everything else waits meanwhile.
  Task<void> sleep(std::chrono::nanoseconds delay);

  virtual Engine engine() const = 0;

 protected:
  Loop() = default;

 private:
  // False: it has completed already.
  virtual bool submit(Operation& operation) noexcept = 0;
  // Blocks until at least one operation completed, and resumes its waiter.
  virtual void wait() = 0;
  // Resumes the waiters of what has completed by now.
  virtual void look() = 0;

  void take_turn();

  Turn* first_turn_ = nullptr;
  Turn* last_turn_ = nullptr;
};

}  // namespace vhdkit::async
