#include "hypervisor/runner/escapes.h"

#include <doctest/doctest.h>

#include <string>

namespace vhdkit::hypervisor {
namespace {

// What is for the guest, with " leave", " off" and " help" behind it where they are wanted.
std::string take(Escapes& escapes, std::string_view text) {
  const Escapes::Typed typed = escapes.take(std::as_bytes(std::span(text)));
  std::string said(reinterpret_cast<const char*>(typed.for_guest.data()), typed.for_guest.size());
  if (typed.wants_to_leave) said += " leave";
  if (typed.wants_power_off) said += " off";
  if (typed.wants_help) said += " help";
  return said;
}

// Literals in two parts: the compiler would take letters behind \x01 for its digits.
TEST_CASE("Ctrl-A and another key are for the runner") {
  Escapes escapes;
  CHECK(take(escapes, "ls -l\r") == "ls -l\r");
  CHECK(take(escapes, "\x01x") == " leave");
  CHECK(take(escapes, "\x01h") == " help");
  CHECK(take(escapes, "\x01p") == " off");
  CHECK(take(escapes,
             "\x01"
             "a") == "\x01");
  CHECK(take(escapes, "\x01\x01") == "\x01");
  CHECK(take(escapes, "xahp") == "xahp");
}

TEST_CASE("every other key after Ctrl-A is nothing") {
  for (int key = 0; key < 256; ++key) {
    if (key == 0x01 || key == 'a' || key == 'x' || key == 'h' || key == 'p') continue;
    CAPTURE(key);
    Escapes escapes;
    CHECK(take(escapes, {"\x01", 1}) == "");
    const char typed = char(key);
    CHECK(take(escapes, {&typed, 1}) == "");
    CHECK(take(escapes, "x") == "x");
  }
}

TEST_CASE("keys come one by one as well as together") {
  constexpr std::string_view keys =
      "a\x01\x01z\x01"
      "ab\x01qc\x01\x01x";
  constexpr std::string_view for_guest =
      "a\x01z\x01"
      "bc\x01x";
  Escapes together;
  CHECK(take(together, keys) == for_guest);
  Escapes one_by_one;
  std::string got;
  for (const char key : keys) got += take(one_by_one, {&key, 1});
  CHECK(got == for_guest);
}

TEST_CASE("what is typed around an escape is the guest's, and several are heard at once") {
  Escapes escapes;
  CHECK(take(escapes, "be\x01xfo\x01pre\x01hh") == "beforeh leave off help");
  CHECK(take(escapes, "") == "");
  CHECK(take(escapes, "q\x01") == "q");
  CHECK(take(escapes, "") == "");
  CHECK(take(escapes, "x") == " leave");
}

TEST_CASE("bytes that are no keys pass") {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte)
    if (byte != 0x01) bytes += char(byte);
  Escapes escapes;
  CHECK(take(escapes, bytes) == bytes);
}

}  // namespace
}  // namespace vhdkit::hypervisor
