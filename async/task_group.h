// Several tasks at once on one loop; the first error is the group's.
#pragma once

#include "async/task.h"

namespace vhdkit::async {

// Loop-bound. REQUIRES: finish() was awaited before destruction, whatever it returned.
class TaskGroup {
 public:
  TaskGroup() = default;
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  ~TaskGroup() { assert(running_count_ == 0); }

  // Runs the task until it first suspends; it goes on as its I/O completes.
  void start(Async<void> task);

  // Whether a started task has failed already: no new work is worth starting.
  bool failed() const { return !first_.has_value(); }

  // Returns when every started task has ended, with the first error in time.
  Async<void> finish();

 private:
  struct Follower;
  struct Rest;
  struct Wait;
  static Follower follow(TaskGroup& group, Async<void> task);
  void note(Result<void> result);
  void one_ended();

  size_t running_count_ = 0;
  std::coroutine_handle<> waiter_;
  Result<void> first_;
};

}  // namespace vhdkit::async
