// What a process may do because of who it is.
#pragma once

#include <optional>

#include "hypervisor/sandbox/user.h"

namespace vhdkit::hypervisor {

// Becomes the user for good, with its real and saved numbers too, without further groups, and
// without capabilities that a program started later could gain. Who is not root can only become
// itself, and keeps what groups and such capabilities it has. REQUIRES: there is one thread.
// Errors: of the system.
Result<void> become(const User& user);

// Gives up all capabilities, those that a program started later could gain with them, and the
// groups beside the first where the system lets it. Root keeps the rights of the owner of root's
// files, and no others. Threads that begin later have none of it either. REQUIRES: there is one
// thread. Errors: of the system.
Result<void> drop_capabilities();

}  // namespace vhdkit::hypervisor
