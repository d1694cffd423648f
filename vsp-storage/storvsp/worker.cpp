#include "vsp-storage/storvsp/worker.h"

#include <sched.h>

#include <algorithm>
#include <cassert>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace vhdkit::storvsp {
namespace {

// Comes once, and is gone when it was opened.
class ResumeLetter final : public async::Letter {
 public:
  explicit ResumeLetter(std::coroutine_handle<> waiter) : waiter_(waiter) {}
  void open() override {
    const std::coroutine_handle<> waiter = waiter_;
    delete this;
    waiter.resume();
  }

 private:
  std::coroutine_handle<> waiter_;
};

// What one thread waits for until another one says so.
class Notice {
 public:
  void give() {
    const std::lock_guard lock(mutex_);
    is_given_ = true;
    // Under the lock: who waits ends this notice's life.
    changed_.notify_one();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_given_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_given_ = false;
};

class WorkLetter final : public async::Letter {
 public:
  explicit WorkLetter(const std::function<void()>& work) : work_(work) {}
  void open() override {
    work_();
    is_done_.give();
  }
  void wait() { is_done_.wait(); }

 private:
  const std::function<void()>& work_;
  Notice is_done_;
};

Async<void> tell_the_end(Async<void> task, Result<void>& outcome, Notice& has_ended) {
  outcome = co_await std::move(task);
  has_ended.give();
  co_return Result<void>();
}

}  // namespace

struct Worker::Sleep {
  Worker& worker;
  bool await_ready() noexcept { return worker.is_woken_; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { worker.sleeper_ = waiter; }
  void await_resume() noexcept { worker.is_woken_ = false; }
};

Worker::Worker(async::Loop& loop, const Options& options)
    : loop_(loop),
      options_(options),
      event_letter_(*this),
      mailbox_(loop, &event_letter_),
      stop_letter_(*this) {}

Worker::~Worker() { assert(served_.empty()); }

Async<void> Worker::serve() {
  tasks_.start(open_letters());
  while (!is_stopped_ || !served_.empty()) {
    const bool was_active = serve_all();
    if (stays_awake(was_active)) {
      // Who shares the processor goes first, such as the kernel's workers of this very loop.
      if (!was_active) sched_yield();
      co_await loop_.turn();
      mailbox_.look();
      continue;
    }
    if (all_fall_asleep()) {
      Sleep sleep{*this};
      co_await sleep;
      now_ = Clock::now();
      is_woken_soon_ = now_ - last_active_ < options_.awake_for;
    }
    for (Served* const served : served_) served->wake_up();
  }
  mailbox_.close();
  co_return co_await tasks_.finish();
}

Async<void> Worker::open_letters() {
  co_await mailbox_.serve();
  co_return Result<void>();
}

bool Worker::serve_all() {
  bool was_active = false;
  // By index: what is served may leave meanwhile.
  for (size_t i = 0; i < served_.size(); ++i) was_active |= served_[i]->serve();
  return was_active;
}

bool Worker::all_fall_asleep() {
  return std::ranges::all_of(served_, [](Served* served) { return served->fall_asleep(); });
}

bool Worker::stays_awake(bool was_active) {
  now_ = Clock::now();
  if (was_active) last_active_ = now_;
  return was_active || (is_woken_soon_ && now_ - last_active_ < options_.awake_for);
}

void Worker::wake() noexcept {
  is_woken_ = true;
  if (sleeper_ == nullptr) return;
  turn_.waiter = std::exchange(sleeper_, nullptr);
  loop_.resume_next_turn(turn_);
}

// The loop does not look for the events of letters and guests as long as it has turns to take.
async::Task<void> Worker::yield() {
  wake();
  co_await loop_.turn();
  mailbox_.look();
}

void Worker::add(Served& served) {
  served_.push_back(&served);
  wake();
}

void Worker::remove(Served& served) {
  std::erase(served_, &served);
  wake();
}

void Worker::stop() { mailbox_.post(stop_letter_); }

void Worker::hear_stop() {
  is_stopped_ = true;
  wake();
}

void Worker::run(const std::function<void()>& work) {
  if (std::this_thread::get_id() == thread_) return work();
  WorkLetter letter(work);
  mailbox_.post(letter);
  letter.wait();
}

Result<void> Worker::await(const std::function<Async<void>()>& make_task) {
  assert(std::this_thread::get_id() != thread_);
  Result<void> outcome;
  Notice has_ended;
  run([&] { start(tell_the_end(make_task(), outcome, has_ended)); });
  has_ended.wait();
  return outcome;
}

void Worker::resume(std::coroutine_handle<> waiter) { mailbox_.post(*new ResumeLetter(waiter)); }

// --- WorkerThread ---

Result<std::unique_ptr<WorkerThread>> WorkerThread::start(const Worker::Options& options,
                                                          const std::function<void()>& begin) {
  std::unique_ptr<WorkerThread> thread(new WorkerThread());
  Result<void> outcome;
  Notice is_ready;
  thread->thread_ = std::thread([self = thread.get(), options, &begin, &outcome, &is_ready] {
    outcome = self->create(options);
    begin();
    const bool is_created = outcome.has_value();
    is_ready.give();
    if (!is_created) return;
    [[maybe_unused]] const auto served = self->loop_->run(self->worker_->serve());
  });
  is_ready.wait();
  TRY(outcome);
  return thread;
}

Result<void> WorkerThread::create(const Worker::Options& options) {
  TRY_LET(loop_, async::Loop::create());
  worker_ = std::make_unique<Worker>(*loop_, options);
  return {};
}

// The worker outlives its thread: who stops it may still be telling it so when it ends.
WorkerThread::~WorkerThread() {
  if (worker_ != nullptr) worker_->stop();
  thread_.join();
}

}  // namespace vhdkit::storvsp
