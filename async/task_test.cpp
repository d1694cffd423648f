#include "async/task.h"

#include <doctest/doctest.h>

#include "async/task_group.h"
#include "tests/support/await.h"

namespace vhdkit::async {
namespace {

Async<int> answer(int value) { co_return value; }

Async<int> sum_of(int count) {
  int sum = 0;
  for (int i = 0; i < count; ++i) {
    CO_TRY_LET(const int value, co_await answer(1));
    sum += value;
  }
  co_return sum;
}

Async<void> failing() { co_return fail(Errc::io, "broken"); }

Async<void> outer() {
  CO_TRY(co_await failing());
  co_return Result<void>();
}

TEST_CASE("immediate completions use no stack") {
  CHECK(tests::await(sum_of(1'000'000)).value() == 1'000'000);
}

TEST_CASE("errors leave coroutines through CO_TRY") {
  REQUIRE_FAILS(Errc::io, "broken", tests::await(outer()));
}

Async<void> group_of_three() {
  TaskGroup group;
  group.start(failing());
  const bool failed_early = group.failed();
  group.start(outer());
  auto result = co_await group.finish();
  if (!failed_early) co_return fail(Errc::corrupt, "the failure was not seen");
  co_return result;
}

TEST_CASE("a group reports its first error") {
  REQUIRE_FAILS(Errc::io, "broken", tests::await(group_of_three()));
}

}  // namespace
}  // namespace vhdkit::async
