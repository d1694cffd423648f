// Names of files that would do harm if they came back after a crash.
#pragma once

#include <string>

#include "support/result.h"

namespace vhdkit::image {

// Removes the file, and returns when its name is gone also after a crash. A symbolic link goes too,
// after the file that it leads to. Errors: those of the system, naming the file or its folder.
Result<void> remove_durably(const std::string& path);

// Gives a file in the folder (a descriptor, or AT_FDCWD and whole paths) another name there, which
// must be free. Returns: 0, or errno; EEXIST: it is taken, and the file has the name that it had.
int rename_to_free_name(int folder, const std::string& name, const std::string& new_name);

// Gives the file another name in its folder, and returns when it has that also after a crash.
// Errors: exists: that name is taken; those of the system, naming the file or its folder.
Result<void> rename_durably(const std::string& path, const std::string& new_path);

}  // namespace vhdkit::image
