// Folders on which something is mounted.
#pragma once

#include <chrono>
#include <string>

#include "support/result.h"

namespace vhdkit::fuse {

using Deadline = std::chrono::steady_clock::time_point;

// Whether another file system begins at this folder.
bool is_mount_point(const std::string& path);

// All of these may wait for what is written back meanwhile, so they are never called on the thread
// that serves it.

// Unmounts as soon as nobody has a file there any more. False: somebody had one at the deadline.
bool unmount_unused(const std::string& mount_point, Deadline deadline);

// Unmounts for whoever comes from now on; who is there stays there. Errors: io.
Result<void> detach(const std::string& mount_point);

// The one, or at the deadline the other. Errors: busy (it was the other); io.
Result<void> take_away(const std::string& mount_point, Deadline deadline);

}  // namespace vhdkit::fuse
