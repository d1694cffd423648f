// Folders on which something is mounted.
#pragma once

#include <string>

#include "support/result.h"

namespace vhdkit::fuse {

// Whether another file system begins at this folder.
bool is_mount_point(const std::string& path);

// Unmounts, at once or as soon as nobody has a file there any more. What the kernel still writes
// back is served meanwhile, so this is never called on the thread that does so. Errors: io.
Result<void> take_away(const std::string& mount_point);

}  // namespace vhdkit::fuse
