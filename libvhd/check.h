// Everything that a VHD file's structures get wrong, also of files that do not open.
#pragma once

#include "async/file.h"
#include "disk/finding.h"

namespace vhdkit::libvhd {

// Adds every finding there is, each with a stable code that begins with "vhd-"; reads no payload.
// `usage` counts blocks where the file has any, and stays zero where it cannot be followed so far.
// Errors: io only.
Async<void> check(File& file, disk::Findings& findings, disk::BlockUsage& usage);

}  // namespace vhdkit::libvhd
