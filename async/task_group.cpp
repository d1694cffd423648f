#include "async/task_group.h"

namespace vhdkit::async {

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

void TaskGroup::start(Async<void> task) {
  ++running_count_;
  follow(*this, std::move(task));
}

TaskGroup::Follower TaskGroup::follow(TaskGroup& group, Async<void> task) {
  Result<void> result = co_await std::move(task);
  if (!result && group.first_) group.first_ = std::move(result);
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
