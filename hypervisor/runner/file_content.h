// Files that are read whole: kernels and their RAM disks.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "support/result.h"

namespace vhdkit::hypervisor {

// At most 2 GiB. Errors: those of the system, naming the file; unsupported: larger, or no file.
Result<std::vector<std::byte>> read_file(const std::string& path);

}  // namespace vhdkit::hypervisor
