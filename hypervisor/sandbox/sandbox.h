// The runner's sandbox: what is left to a process that a guest may take over.
//
// A program calls, in this order and before any other thread of it begins: become() and
// drop_capabilities() (privileges.h), once what needs them is open; confine(), before it looks at
// what others have made. Each of its threads then calls enter() first, and the first one when it
// has made the others. Why it is so: docs/decisions/021.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "hypervisor/sandbox/file_rules.h"
#include "hypervisor/sandbox/thread_kind.h"

namespace vhdkit::hypervisor {

struct Confinement {
  bool has_filters = false;             // seccomp; false in a build with sanitizers
  std::optional<int> landlock_version;  // nothing: this kernel keeps nobody from any path
};

// From now on: the filter that all threads inherit, and Landlock's rules. The paths are found
// between the two: images are read for that. Once in a process. REQUIRES: drop_capabilities(), and
// no other thread is there. Errors: find_paths'; of the system; what was done by then stays.
Result<Confinement> confine(const std::function<Result<std::vector<AllowedPath>>()>& find_paths);

// The calling thread is of this kind from now on: it gets its name, and where the process is
// confined its own filter, for good. Ends the process where the kernel refuses that.
void enter(ThreadKind kind);

}  // namespace vhdkit::hypervisor
