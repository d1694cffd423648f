// Everything that a VHDX file's structures get wrong, also of files that do not open.
#pragma once

#include "async/file.h"
#include "disk/finding.h"

namespace vhdkit::vhdx {

// Adds every finding there is, each with a stable code that begins with "vhdx-"; reads no payload.
// A log that is not empty is a note where it can be replayed, and everything after it is checked as
// it will be after replay. `usage` stays zero where the file tells no block. Errors: io only.
Async<void> check(File& file, disk::Findings& findings, disk::BlockUsage& usage);

}  // namespace vhdkit::vhdx
