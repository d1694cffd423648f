// The end of a file that would do harm if it came back.
#pragma once

#include <string>

#include "support/result.h"

namespace vhdkit::image {

// Removes the file, and returns when its name is gone also after a crash. Errors: those of the
// system, naming the file or its folder.
Result<void> remove_durably(const std::string& path);

}  // namespace vhdkit::image
