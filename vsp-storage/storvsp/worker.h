// The thread that serves channels: awake while there is something in them, asleep when not.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "async/mailbox.h"
#include "async/task_group.h"
#include "vsp-storage/scsi/gate.h"

namespace vhdkit::storvsp {

// What a worker looks after. Its thread calls all of it.
class Served {
 public:
  virtual ~Served() = default;
  // Does what can be done at once. True: there was something.
  virtual bool serve() = 0;
  // Asks to be woken when there is something. False: there is something already.
  virtual bool fall_asleep() = 0;
  virtual void wake_up() = 0;
};

// Bound to its loop's thread, but for what says otherwise.
class Worker final : public scsi::Resumer {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    // How long it goes on looking after the last thing it found. It does so only if it was last
    // woken within that time, so of a channel that is used seldom no processor time is lost, and of
    // any other at most this before each sleep.
    std::chrono::microseconds awake_for{50};
  };

  // The loop outlives it, and runs serve().
  Worker(async::Loop& loop, const Options& options);
  explicit Worker(async::Loop& loop) : Worker(loop, Options()) {}
  ~Worker() override;

  // Ends after stop(), once nothing is served any more.
  Async<void> serve();
  void stop();  // thread-safe

  // Thread-safe: runs the work on the worker's thread, and returns when it is done.
  void run(const std::function<void()>& work);
  // For other threads: makes and starts the task on the worker's thread, and returns when it has
  // ended.
  Result<void> await(const std::function<Async<void>()>& make_task);

  void add(Served& served);
  void remove(Served& served);
  // There is something to serve.
  void wake() noexcept;
  // For a task that goes on for long: whatever there is to serve, and all letters, come first.
  async::Task<void> yield();
  // Goes on until it ends; serve() waits for it.
  void start(Async<void> task) { tasks_.start(std::move(task)); }
  // As of the turn of the loop: costs nothing.
  Clock::time_point now() const { return now_; }

  async::Loop& loop() { return loop_; }
  async::Mailbox& mailbox() { return mailbox_; }
  void resume(std::coroutine_handle<> waiter) override;  // thread-safe

 private:
  struct Sleep;
  void hear_stop();
  void hear_event() { wake(); }
  Async<void> open_letters();
  bool serve_all();
  bool all_fall_asleep();
  bool stays_awake(bool was_active);

  async::Loop& loop_;
  Options options_;
  async::LetterTo<Worker, &Worker::hear_event> event_letter_;
  async::Mailbox mailbox_;
  async::TaskGroup tasks_;
  async::LetterTo<Worker, &Worker::hear_stop> stop_letter_;
  std::vector<Served*> served_;
  std::thread::id thread_ = std::this_thread::get_id();
  bool is_stopped_ = false;

  Clock::time_point now_ = Clock::now();
  Clock::time_point last_active_ = now_;
  bool is_woken_soon_ = true;
  bool is_woken_ = false;
  std::coroutine_handle<> sleeper_;
  async::Turn turn_;
};

// A worker with a thread and a loop of its own.
class WorkerThread {
 public:
  // begin: called on the thread before it serves anybody, once it has its loop.
  static Result<std::unique_ptr<WorkerThread>> start(
      const Worker::Options& options, const std::function<void()>& begin = [] {});
  ~WorkerThread();  // stops it and waits

  Worker& worker() { return *worker_; }

 private:
  WorkerThread() = default;
  Result<void> create(const Worker::Options& options);

  std::unique_ptr<async::Loop> loop_;
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
};

}  // namespace vhdkit::storvsp
