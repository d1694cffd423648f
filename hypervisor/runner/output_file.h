// Files that the runner writes to besides its disks: a report, the console's log.
#pragma once

#include <string>

#include "support/descriptor.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

// Opens the file, which is made where it is not there, with these flags of open() besides, and so
// that no write waits. Errors: not_found: it is a pipe that nobody reads; those of the system,
// naming the file.
Result<Descriptor> open_to_write(const std::string& path, int flags);

}  // namespace vhdkit::hypervisor
