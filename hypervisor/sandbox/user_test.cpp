#include "hypervisor/sandbox/user.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

// base-passwd's, which every Debian has.
TEST_CASE("users and groups by names and by numbers") {
  const struct {
    const char* text;
    uid_t user;
    gid_t group;
  } cases[] = {{"root", 0, 0},
               {"nobody", 65534, 65534},
               {"nobody:root", 65534, 0},
               {"65534", 65534, 65534},
               {"65534:7", 65534, 7},
               {"4000000000:4000000001", 4000000000, 4000000001},
               {"daemon:6", 1, 6}};
  for (const auto& [text, user, group] : cases) {
    CAPTURE(text);
    const auto parsed = parse_user(text);
    REQUIRE_OK(parsed);
    CHECK(parsed->user == user);
    CHECK(parsed->group == group);
  }
}

TEST_CASE("users that nobody knows are refused by their names") {
  REQUIRE_FAILS(Errc::invalid_argument, "no user \"nobody-at-all\"", parse_user("nobody-at-all"));
  REQUIRE_FAILS(Errc::invalid_argument, "no user \"\"", parse_user(""));
  REQUIRE_FAILS(Errc::invalid_argument, "no user \"-1\"", parse_user("-1"));
  REQUIRE_FAILS(Errc::invalid_argument, "no group \"nobody-at-all\"",
                parse_user("nobody:nobody-at-all"));
  REQUIRE_FAILS(Errc::invalid_argument, "no group \"\"", parse_user("nobody:"));
  REQUIRE_FAILS(Errc::invalid_argument, "4000000000:GID says which", parse_user("4000000000"));
  // The number by which the kernel means "as it is".
  REQUIRE_FAILS(Errc::invalid_argument, "no user \"4294967295\"", parse_user("4294967295"));
}

}  // namespace
}  // namespace vhdkit::hypervisor
