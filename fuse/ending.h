// The end of a mount, with that of the file system which was mounted from a file of it.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>

#include "fuse/mount_point.h"

namespace vhdkit::fuse {

// Between a signal and the end of a mount that is still in use. Service managers wait for twice as
// long before they kill.
inline constexpr std::chrono::seconds time_for_users(5);

struct Inner {
  Mounted mounted;
  // How often the file from which it was mounted is open.
  const std::atomic<size_t>& open_count;
};

// Both may wait for what is written back meanwhile: on a thread that does not serve the mount.
// Errors: busy (it was in use, and all that was written is in the image); io (something may be
// lost, or something of it is left).

// Whoever uses them gets time_for_users. What was written inside before is put into the image
// first, whatever becomes of this process meanwhile.
Result<void> end_mounts(const Mounted& outer, const std::optional<Inner>& inner);

// After the kernel has ended the outer one's session, by umount -f perhaps, and left it mounted.
Result<void> end_what_is_dead(const Mounted& outer, const std::optional<Inner>& inner);

// After nobody has the inner one's file open any more: it was unmounted, or its driver has died.
Result<void> end_after_inner(const Mounted& outer, const Mounted& inner);

}  // namespace vhdkit::fuse
