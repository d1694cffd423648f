#include "hypervisor/runner/stop_signals.h"

#include <doctest/doctest.h>

#include <chrono>

#include "hypervisor/sandbox/test_process.h"

namespace vhdkit::hypervisor {
namespace {

// Sends these to its own process, and returns the one that was heard first; 0: none.
int heard_of(std::initializer_list<int> sent, int milliseconds = 30'000) {
  std::atomic<int> count = 0;
  StopSignals signals([&] { ++count; });
  signals.listen();
  for (const int one : sent) kill(getpid(), one);
  for (int i = 0; i < milliseconds && count == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return signals.caught();
}

TEST_CASE("a signal is a wish to stop, also where it came before anybody listened") {
  for (const int number : {SIGINT, SIGTERM, SIGHUP})
    CHECK(in_a_process([number] { return heard_of({number}); }).code == number);
  CHECK(in_a_process([] {
          std::atomic<int> count = 0;
          StopSignals signals([&] { ++count; });
          kill(getpid(), SIGTERM);
          signals.listen();
          while (count == 0) std::this_thread::yield();
          return signals.caught();
        }).code == SIGTERM);
}

TEST_CASE("a second one ends the process") {
  CHECK(in_a_process([] {
          std::atomic<int> count = 0;
          StopSignals signals([&] { ++count; });
          signals.listen();
          kill(getpid(), SIGINT);
          while (count == 0) std::this_thread::yield();
          kill(getpid(), SIGTERM);
          for (;;) pause();
          return 0;
        }).signal == SIGTERM);
}

// As nohup and a script's "&" want it.
TEST_CASE("what whoever started it has ignored stays ignored") {
  CHECK(in_a_process([] {
          signal(SIGHUP, SIG_IGN);
          signal(SIGINT, SIG_IGN);
          return heard_of({SIGHUP, SIGINT}, 500);
        }).code == 0);
  CHECK(in_a_process([] {
          signal(SIGHUP, SIG_IGN);
          return heard_of({SIGHUP, SIGTERM});
        }).code == SIGTERM);
}

TEST_CASE("the signal that ends its thread is nobody else's") {
  CHECK(in_a_process([] { return heard_of({SIGUSR2, SIGTERM}); }).code == SIGTERM);
}

}  // namespace
}  // namespace vhdkit::hypervisor
