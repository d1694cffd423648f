// Waits for a coroutine in a test, with a loop of its own.
#pragma once

#include <doctest/doctest.h>

#include "async/loop.h"

namespace vhdkit::tests {

template <class T>
T await(async::Task<T> task) {
  auto loop = async::Loop::create();
  REQUIRE(loop.has_value());
  return (*loop)->run(std::move(task));
}

}  // namespace vhdkit::tests

// Requires a Result to hold a value; prints its message where it does not.
#define REQUIRE_OK(...)                                          \
  do {                                                           \
    auto&& required = __VA_ARGS__;                               \
    INFO((required ? std::string() : required.error().message)); \
    REQUIRE(required.has_value());                               \
  } while (false)

// Requires an error of this code whose message contains the text.
#define REQUIRE_FAILS(errc, text, ...)                               \
  do {                                                               \
    auto&& required = __VA_ARGS__;                                   \
    REQUIRE_FALSE(required.has_value());                             \
    INFO(required.error().message);                                  \
    CHECK(required.error().code == (errc));                          \
    CHECK(required.error().message.find(text) != std::string::npos); \
  } while (false)
