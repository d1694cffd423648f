// Errors as values: every call that can fail because of a file, a guest or the system returns
// Result<T>.
//
// Input from a file or guest never asserts: it becomes an Error that carries the values found.
// Our own invariants assert, in release builds too.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace vhdkit {

// What the caller can do about it; the message says what happened.
enum class Errc {
  io,                // the system refused or broke a transfer; os_error says why
  corrupt,           // a structure of the file contradicts its specification
  unsupported,       // valid, but not something this library handles
  invalid_argument,  // the caller's options contradict each other or the format
  out_of_range,      // a request outside the disk or file
  not_found,         // a file, parent or structure is not there
  exists,            // a target is there already
  read_only,         // a change was asked of something opened for reading
  busy,              // somebody else holds it
  no_space,          // the file system or quota is full
  permission,        // the system denies access
  wrong_parent,      // a parent was found but is not the one that the child names
  interrupted,       // the user stopped the work
};

struct [[nodiscard]] Error {
  Errc code;
  int os_error = 0;  // errno, 0 if none
  std::string
      message;  // "child.vhdx: BAT entry 17: file offset 0x300000 is past the end (0x280000)"
};

// std::expected of libstdc++ 12 may be dropped silently; this one may not.
template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
};

std::unexpected<Error> fail(Errc code, std::string message);

// The error of a system call: "WHAT: No such file or directory", with the code that fits errno.
std::unexpected<Error> fail_errno(int os_error, std::string_view what);

// Puts one clause before the message: "child.vhdx: " + message.
Error with_context(Error error, std::string_view clause);

template <class T>
Result<T> with_context(Result<T> result, std::string_view clause) {
  if (result) return result;
  return std::unexpected(with_context(std::move(result).error(), clause));
}

}  // namespace vhdkit

#define VHDKIT_JOIN_(a, b) a##b
#define VHDKIT_JOIN(a, b) VHDKIT_JOIN_(a, b)

// TRY(f());                  returns f's error from the calling function
// TRY_LET(auto x, f());      the same, else names the value
#define TRY(...)                                                   \
  do {                                                             \
    if (auto try_result = (__VA_ARGS__); !try_result) [[unlikely]] \
      return std::unexpected(std::move(try_result).error());       \
  } while (false)
#define TRY_LET_(temporary, declaration, ...)             \
  auto temporary = (__VA_ARGS__);                         \
  if (!temporary) [[unlikely]]                            \
    return std::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)
#define TRY_LET(declaration, ...) \
  TRY_LET_(VHDKIT_JOIN(try_value_, __LINE__), declaration, __VA_ARGS__)

// The same inside a coroutine; the expression may be a plain one or `co_await f()`.
#define CO_TRY(...)                                             \
  do {                                                          \
    auto try_result = __VA_ARGS__;                              \
    if (!try_result) [[unlikely]]                               \
      co_return std::unexpected(std::move(try_result).error()); \
  } while (false)
#define CO_TRY_LET_(temporary, declaration, ...)             \
  auto temporary = __VA_ARGS__;                              \
  if (!temporary) [[unlikely]]                               \
    co_return std::unexpected(std::move(temporary).error()); \
  declaration = std::move(*temporary)
#define CO_TRY_LET(declaration, ...) \
  CO_TRY_LET_(VHDKIT_JOIN(try_value_, __LINE__), declaration, __VA_ARGS__)
