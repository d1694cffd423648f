// Which of the kernel's calls a thread may make, by what it does. seccomp(2).
#pragma once

#include <linux/filter.h>

#include <vector>

#include "hypervisor/sandbox/thread_kind.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

// A sanitizer's runtime makes calls of its own, which are nobody's business here: with one, no
// filter is installed.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool has_sanitizer = true;
#elif defined(__has_feature)
inline constexpr bool has_sanitizer =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||
    __has_feature(memory_sanitizer) || __has_feature(undefined_behavior_sanitizer);
#else
inline constexpr bool has_sanitizer = false;
#endif

// A list of allowed calls. Any other ends the process at once (SECCOMP_RET_KILL_PROCESS), and the
// kernel's log names it; no handler sees it. Made for the process that it is made in.
class Filter {
 public:
  // Errors: of the system.
  static Result<Filter> of(ThreadKind kind);
  // What is allowed to any kind, and to begin threads, rings and Landlock's rules besides: for the
  // first thread, while the machine is made. Whoever it starts inherits it, and can only lose by
  // its own.
  static Result<Filter> of_beginning();

  // For the calling thread and those that it starts, for good. REQUIRES: no_new_privs. Errors: of
  // the system.
  Result<void> install() const;

 private:
  std::vector<sock_filter> program_;
};

}  // namespace vhdkit::hypervisor
