// Whose rights the runner has.
#pragma once

#include <sys/types.h>

#include <string>

#include "support/result.h"

namespace vhdkit::hypervisor {

struct User {
  uid_t user = 0;
  gid_t group = 0;
};

// "NAME", "NAME:GROUP", "UID" or "UID:GID", names and numbers mixed as one likes. Without a group:
// the user's own, which a number that has no name lacks. Errors: invalid_argument; of the system.
Result<User> parse_user(const std::string& text);

}  // namespace vhdkit::hypervisor
