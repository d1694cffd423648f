// What status and counters say of a machine's parts, as JSON.
#pragma once

#include "hypervisor/partition/exit_counters.h"
#include "hypervisor/runner/storage.h"
#include "hypervisor/sandbox/sandbox.h"

namespace vhdkit::hypervisor {

tools::Json json_of(const Place& place);
tools::Json json_of(const DiskStatus& disk);
tools::Json json_of(const DriveStatus& drive);
tools::Json json_of(const ExitCounts& counts);  // by cause
tools::Json json_of(const std::optional<Confinement>& confinement);

}  // namespace vhdkit::hypervisor
