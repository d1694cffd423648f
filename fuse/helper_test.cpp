#include "fuse/helper.h"

#include <doctest/doctest.h>
#include <poll.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/support/await.h"

namespace vhdkit::fuse {
namespace {

void finish_next(Helper& helper) {
  pollfd events{.fd = helper.descriptor(), .events = POLLIN, .revents = 0};
  REQUIRE(poll(&events, 1, -1) == 1);
  helper.finish_job();
}

TEST_CASE("jobs run one after another, and their ends are told on the thread that asks") {
  Helper helper;
  std::vector<std::string>
      steps;  // touched by one thread at a time, or the thread sanitizer says so
  const auto here = std::this_thread::get_id();
  for (const std::string name : {"first", "second"}) {
    helper.start(
        [&steps, name, here]() -> Result<void> {
          CHECK(std::this_thread::get_id() != here);
          steps.push_back(name + " runs");
          return {};
        },
        [&steps, name, here](const Result<void>& done) {
          CHECK(std::this_thread::get_id() == here);
          REQUIRE_OK(done);
          if (name == "second") steps.push_back("both are done");
        });
  }
  finish_next(helper);
  finish_next(helper);
  CHECK(steps == std::vector<std::string>{"first runs", "second runs", "both are done"});
}

TEST_CASE("a job that fails says why, and may be followed by another from its end") {
  Helper helper;
  std::string message;
  bool has_followed = false;
  helper.start([] { return Result<void>(fail(Errc::io, "no")); },
               [&](const Result<void>& done) {
                 message = done.error().message;
                 helper.start([] { return Result<void>(); },
                              [&](const Result<void>&) { has_followed = true; });
               });
  helper.finish_job();  // too early at most: then nothing happens
  while (!has_followed) finish_next(helper);
  CHECK(message == "no");
}

TEST_CASE("a helper that goes away waits for its job") {
  bool has_run = false;
  {
    Helper helper;
    helper.start(
        [&has_run]() -> Result<void> {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
          has_run = true;
          return {};
        },
        [](const Result<void>&) {});
  }
  CHECK(has_run);
}

}  // namespace
}  // namespace vhdkit::fuse
