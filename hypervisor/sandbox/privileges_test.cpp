#include "hypervisor/sandbox/privileges.h"

#include <doctest/doctest.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "hypervisor/sandbox/test_process.h"
#include "tests/support/programs.h"

namespace vhdkit::hypervisor {
namespace {

constexpr User root{.user = 0, .group = 0};
constexpr User nobody{.user = 65534, .group = 65534};
constexpr User another{.user = 1, .group = 1};

bool is_not_root() {
  if (geteuid() == 0 && prctl(PR_CAPBSET_READ, CAP_SETPCAP, 0, 0, 0) == 1) return false;
  tests::skip("needs root, with its capabilities");
  return true;
}

bool has_groups() { return getgroups(0, nullptr) != 0; }
bool can_gain_capabilities() { return prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) != 0; }

bool is_wholly(const User& user) {
  std::array<uid_t, 3> users{};
  std::array<gid_t, 3> groups{};
  return getresuid(&users[0], &users[1], &users[2]) == 0 &&
         getresgid(&groups[0], &groups[1], &groups[2]) == 0 &&
         users == std::array{user.user, user.user, user.user} &&
         groups == std::array{user.group, user.group, user.group};
}

// 0 where all is as it should be, in a process with a group more.
int code_of(const std::function<int()>& work) {
  const Death death = in_a_process([&work] {
    const gid_t group = 7;
    return setgroups(1, &group) == 0 && has_groups() ? work() : 100;
  });
  CHECK(death.signal == 0);
  return death.code;
}

TEST_CASE("root becomes somebody, and it may be root, without groups and what it could gain") {
  if (is_not_root()) return;
  for (const User& user : {root, nobody}) {
    CAPTURE(user.user);
    CHECK(code_of([&user] {
            if (!become(user) || !is_wholly(user)) return 1;
            if (has_groups()) return 2;
            if (can_gain_capabilities()) return 3;
            return user.user != 0 && setuid(0) == 0 ? 4 : 0;
          }) == 0);
  }
}

TEST_CASE("who is not root becomes itself, and nobody else") {
  if (is_not_root()) return;
  CHECK(code_of([] {
          if (setresgid(nobody.group, nobody.group, nobody.group) != 0) return 1;
          if (setresuid(nobody.user, nobody.user, nobody.user) != 0) return 2;
          if (!become(nobody) || !is_wholly(nobody)) return 3;
          for (const User& other : {root, another, User{.user = nobody.user, .group = 0}}) {
            const auto refused = become(other);
            if (refused || refused.error().os_error != EPERM) return 4;
          }
          return is_wholly(nobody) ? 0 : 5;
        }) == 0);
}

TEST_CASE("what a user was before is no way back") {
  if (is_not_root()) return;
  CHECK(code_of([] {
          if (setresgid(0, nobody.group, 0) != 0 || setresuid(0, nobody.user, 0) != 0) return 1;
          if (!become(nobody)) return 2;
          return is_wholly(nobody) ? 0 : 3;
        }) == 0);
}

}  // namespace
}  // namespace vhdkit::hypervisor
