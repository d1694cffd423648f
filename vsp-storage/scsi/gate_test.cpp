#include "vsp-storage/scsi/gate.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "vsp-storage/scsi/test_mailbox.h"

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

struct Shared {
  Gate gate;
  std::atomic<int> sharing = 0;
  std::atomic<int> alone = 0;
  uint64_t counter = 0;  // of those who were alone: no atomic, nobody else is inside
};

Task<void> come_and_go(Shared& shared, Mailbox& mailbox, int index) {
  constexpr int rounds = 3000;
  const auto thread = std::this_thread::get_id();
  for (int round = 0; round < rounds; ++round) {
    if ((round + index) % 5 == 0) {
      const Gate::Pass pass = co_await shared.gate.enter_alone(&mailbox);
      if (!pass || shared.sharing != 0 || shared.alone++ != 0) std::abort();
      ++shared.counter;
      --shared.alone;
    } else {
      const Gate::Pass pass = co_await shared.gate.enter(&mailbox);
      ++shared.sharing;
      if (!pass || shared.alone != 0) std::abort();
      --shared.sharing;
    }
    if (std::this_thread::get_id() != thread) std::abort();
  }
}

void come_and_go_with_four(Shared& shared) {
  Mailbox mailbox;
  std::vector<Task<void>> tasks;
  for (int index = 0; index < 4; ++index) tasks.push_back(come_and_go(shared, mailbox, index));
  mailbox.run(tasks);
}

TEST_CASE("a gate between threads lets nobody in beside who is alone, and forgets nobody") {
  Shared shared;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(come_and_go_with_four, std::ref(shared));
  for (std::thread& thread : threads) thread.join();
  CHECK(shared.counter == 3 * 4 * 600);
}

}  // namespace
}  // namespace vhdkit::scsi
