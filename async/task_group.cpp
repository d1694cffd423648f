#include "async/task_group.h"

namespace vhdkit::async {
namespace {

// Of a task that has ended, and that is gone afterwards: what it holds may not outlive its group.
Result<void> outcome_of(Async<void> task) { return task.take(); }

}  // namespace

// A coroutine that nobody awaits: it frees its own frame, then tells the group, which may be gone
// afterwards.
struct TaskGroup::Follower {
  struct promise_type : PooledFrame {
    TaskGroup& group;

    promise_type(TaskGroup& its_group, Async<void>&) : group(its_group) {}
    Follower get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    struct End {
      bool await_ready() noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> self) noexcept {
        TaskGroup& followed = self.promise().group;
        self.destroy();
        followed.one_ended();
      }
      void await_resume() noexcept {}
    };
    End final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
  };
};

struct TaskGroup::Wait {
  TaskGroup& group;
  bool await_ready() noexcept { return group.running_count_ == 0; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { group.waiter_ = waiter; }
  void await_resume() noexcept {}
};

// What is left of a task that has started.
struct TaskGroup::Rest {
  Async<void>& task;
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { task.set_waiter(waiter); }
  Result<void> await_resume() { return task.take(); }
};

// Most tasks of a busy group end at once, and need nobody who follows them.
void TaskGroup::start(Async<void> task) {
  ++running_count_;
  task.start();
  if (!task.done()) {
    follow(*this, std::move(task));
    return;
  }
  note(outcome_of(std::move(task)));
  one_ended();
}

TaskGroup::Follower TaskGroup::follow(TaskGroup& group, Async<void> task) {
  Rest rest{task};
  Result<void> result = co_await rest;
  group.note(std::move(result));
}

void TaskGroup::note(Result<void> result) {
  if (!result && first_) first_ = std::move(result);
}

void TaskGroup::one_ended() {
  if (--running_count_ == 0 && waiter_) std::exchange(waiter_, nullptr).resume();
}

Async<void> TaskGroup::finish() {
  Wait wait{*this};
  co_await wait;
  co_return first_;
}

}  // namespace vhdkit::async
