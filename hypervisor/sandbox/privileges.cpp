#include "hypervisor/sandbox/privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace vhdkit::hypervisor {
namespace {

// The kernel's numbers end where it knows no more of them.
void empty_bounding_set() {
  for (unsigned long number = 0; prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; ++number)
    // EPERM: without CAP_SETPCAP; then there was little to lose.
    prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
}

}  // namespace

Result<void> become(const User& user) {
  const std::string name = std::to_string(user.user) + ":" + std::to_string(user.group);
  const bool is_itself = geteuid() == user.user && getegid() == user.group;
  empty_bounding_set();
  // EPERM: who has no right to change its groups has those that it was given.
  const bool has_left_groups = setgroups(0, nullptr) == 0 || (is_itself && errno == EPERM);
  if (!has_left_groups || setresgid(user.group, user.group, user.group) != 0 ||
      setresuid(user.user, user.user, user.user) != 0)
    return fail_errno(errno, "becoming user " + name);
  return {};
}

Result<void> drop_capabilities() {
  // EPERM: who has no right to change its groups has those that it was given.
  if (setgroups(0, nullptr) != 0 && errno != EPERM) return fail_errno(errno, "leaving groups");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno(errno, "no_new_privs");
  empty_bounding_set();
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  if (syscall(SYS_capset, &header, none.data()) != 0)
    return fail_errno(errno, "giving up capabilities");
  return {};
}

}  // namespace vhdkit::hypervisor
