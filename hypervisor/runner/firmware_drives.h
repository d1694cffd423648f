// The disks that a loader finds behind INT 13h.
#pragma once

#include "hypervisor/bios/drive.h"
#include "hypervisor/runner/storage.h"

namespace vhdkit::hypervisor {

// Each disk with sectors of 512 bytes, that with this path first, as many as a BIOS has numbers
// for. The storage outlives them. Errors: not_found where the first disk has other sectors, so that
// nothing could be booted from it, or is not there: none of the others is booted in its place.
Result<std::vector<std::unique_ptr<Drive>>> firmware_drives(Storage& storage,
                                                            const std::string& first);

}  // namespace vhdkit::hypervisor
