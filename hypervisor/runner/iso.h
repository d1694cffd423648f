// What makes a file the content of an optical medium.
#pragma once

#include "disk/disk.h"

namespace vhdkit::hypervisor {

// Whether the disk begins as an ISO 9660 or a UDF volume does; only reads. Errors: corrupt: it does
// not; unsupported: its sectors are larger than a medium's blocks of 2048 bytes; those of reading.
// Spec: ECMA-119, 8.1; ECMA-167, 2/9.1.
Async<void> check_medium(disk::Disk& disk);

}  // namespace vhdkit::hypervisor
