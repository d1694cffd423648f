// How coroutines of one thread come back to it in tests.
#pragma once

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

#include "async/task.h"
#include "vsp-storage/scsi/gate.h"

namespace vhdkit::scsi {

// Belongs to one thread; resume() may be called from any.
class Mailbox final : public Resumer {
 public:
  void resume(std::coroutine_handle<> waiter) override {
    const std::scoped_lock lock(mutex_);
    ready_.push_back(waiter);
  }

  // Starts the tasks and resumes what comes back, until all are done.
  void run(std::vector<async::Task<void>>& tasks) {
    for (async::Task<void>& task : tasks) task.start();
    while (!std::ranges::all_of(tasks, [](const auto& task) { return task.done(); })) {
      std::vector<std::coroutine_handle<>> ready;
      {
        const std::scoped_lock lock(mutex_);
        ready.swap(ready_);
      }
      for (const auto waiter : ready) waiter.resume();
      std::this_thread::yield();
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::coroutine_handle<>> ready_;
};

}  // namespace vhdkit::scsi
