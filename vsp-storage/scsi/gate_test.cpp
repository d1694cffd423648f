#include "vsp-storage/scsi/gate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "async/task.h"

namespace vhdkit::scsi {
namespace {

using async::Task;

// Stays inside until it is told to leave.
struct Step {
  std::vector<std::coroutine_handle<>> waiting;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) { waiting.push_back(waiter); }
  void await_resume() const noexcept {}
  void go_on() {
    const auto next = waiting.front();
    waiting.erase(waiting.begin());
    next.resume();
  }
};

Task<void> visit(Gate& gate, Resumer* resumer, Step& step, std::string& log, char name) {
  const bool is_alone = name >= 'A' && name <= 'Z';
  if (is_alone) {
    const Gate::Pass pass = co_await gate.enter_alone(resumer);
    log += pass ? name : '-';
    if (pass) co_await step;
  } else {
    const Gate::Pass pass = co_await gate.enter(resumer);
    log += pass ? name : '-';
    if (pass) co_await step;
  }
  log += '.';
}

struct Visits {
  Gate gate;
  Step step;
  ResumeHere here;
  std::string log;
  std::vector<Task<void>> tasks;
  void come(char name, bool waits = true) {
    tasks.push_back(visit(gate, waits ? &here : nullptr, step, log, name));
    tasks.back().start();
  }
};

TEST_CASE("many share a gate, one is alone, and waiters take turns") {
  Visits visits;
  for (const char name : {'a', 'b', 'X', 'c', 'd', 'Y', 'e'}) visits.come(name);
  CHECK(visits.log == "ab");
  visits.step.go_on();
  CHECK(visits.log == "ab.");
  visits.step.go_on();  // the last one lets X in, before it ends itself
  CHECK(visits.log == "ab.X.");
  visits.step.go_on();  // X lets in who came meanwhile, before Y
  CHECK(visits.log == "ab.X.cde.");
  visits.come('f');
  CHECK(visits.log == "ab.X.cde.");
  visits.step.go_on();
  visits.step.go_on();
  visits.step.go_on();
  CHECK(visits.log == "ab.X.cde...Y.");
  visits.step.go_on();
  CHECK(visits.log == "ab.X.cde...Y.f.");
  visits.step.go_on();
  CHECK(visits.log == "ab.X.cde...Y.f..");
}

TEST_CASE("who cannot wait is not let in") {
  Visits visits;
  visits.come('a', false);
  visits.come('X', false);
  CHECK(visits.log == "a-.");
  visits.step.go_on();
  visits.come('X', false);
  visits.come('Y', false);
  visits.come('b', false);
  CHECK(visits.log == "a-..X-.-.");
  visits.step.go_on();
  visits.come('b', false);
  CHECK(visits.log == "a-..X-.-..b");
  visits.step.go_on();
}

// A thread with coroutines of its own, and the list by which others hand them back.
class Worker final : public Resumer {
 public:
  void resume(std::coroutine_handle<> waiter) override {
    const std::scoped_lock lock(mutex_);
    ready_.push_back(waiter);
  }
  void run(Gate& gate, std::atomic<int>& sharing, std::atomic<int>& alone, uint64_t& counter) {
    constexpr int rounds = 3000, tasks_at_once = 4;
    std::vector<Task<void>> tasks;
    for (int i = 0; i < tasks_at_once; ++i) {
      tasks.push_back(visits(gate, *this, sharing, alone, counter, rounds, i));
      tasks.back().start();
    }
    while (!std::ranges::all_of(tasks, [](const Task<void>& task) { return task.done(); })) {
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
  static Task<void> visits(Gate& gate, Worker& worker, std::atomic<int>& sharing,
                           std::atomic<int>& alone, uint64_t& counter, int rounds, int index) {
    const auto thread = std::this_thread::get_id();
    for (int round = 0; round < rounds; ++round) {
      if ((round + index) % 5 == 0) {
        const Gate::Pass pass = co_await gate.enter_alone(&worker);
        if (!pass || sharing != 0 || alone++ != 0) std::abort();
        ++counter;  // no atomic: nobody else is inside
        --alone;
      } else {
        const Gate::Pass pass = co_await gate.enter(&worker);
        ++sharing;
        if (!pass || alone != 0) std::abort();
        --sharing;
      }
      if (std::this_thread::get_id() != thread) std::abort();
    }
  }

  std::mutex mutex_;
  std::vector<std::coroutine_handle<>> ready_;
};

TEST_CASE("a gate between threads lets nobody in beside who is alone, and forgets nobody") {
  Gate gate;
  std::atomic<int> sharing = 0, alone = 0;
  uint64_t counter = 0;
  Worker workers[3];
  std::vector<std::thread> threads;
  for (Worker& worker : workers)
    threads.emplace_back([&] { worker.run(gate, sharing, alone, counter); });
  for (std::thread& thread : threads) thread.join();
  CHECK(counter == 3 * 4 * 600);
}

}  // namespace
}  // namespace vhdkit::scsi
