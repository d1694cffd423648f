// The disks that a loader finds behind INT 13h.
#pragma once

#include "hypervisor/bios/drive.h"
#include "hypervisor/runner/storage.h"

namespace vhdkit::hypervisor {

// Each disk with sectors of 512 bytes, in their order, as many as a BIOS has numbers for. The
// storage outlives them. Errors: not_found where the first disk has other sectors: nothing could be
// booted from it.
Result<std::vector<std::unique_ptr<Drive>>> firmware_drives(Storage& storage);

}  // namespace vhdkit::hypervisor
