#include "async/mutex.h"

#include <doctest/doctest.h>

#include <string>

#include "async/task_group.h"
#include "tests/support/await.h"

namespace vhdkit::async {
namespace {

// Suspends whoever awaits it, until open() is called.
struct Gate {
  std::coroutine_handle<> waiter;
  bool await_ready() noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) noexcept { waiter = handle; }
  void await_resume() noexcept {}
  void open() { waiter.resume(); }
};

Async<void> enter(Mutex& mutex, Gate& gate, char name, std::string& order) {
  const Mutex::Guard guard = co_await mutex.lock();
  order += name;
  co_await gate;
  order += name;
  co_return Result<void>();
}

TEST_CASE("a mutex lets tasks in one at a time, in their order") {
  Mutex mutex;
  Gate gates[3];
  std::string order;
  TaskGroup group;
  for (size_t i = 0; i < 3; ++i) group.start(enter(mutex, gates[i], char('a' + i), order));
  CHECK(order == "a");
  gates[0].open();
  CHECK(order == "aab");
  gates[1].open();
  gates[2].open();
  CHECK(order == "aabbcc");
  REQUIRE_OK(tests::await(group.finish()));
  group.start(enter(mutex, gates[0], 'd', order));
  CHECK(order == "aabbccd");
  gates[0].open();
  REQUIRE_OK(tests::await(group.finish()));
}

}  // namespace
}  // namespace vhdkit::async
