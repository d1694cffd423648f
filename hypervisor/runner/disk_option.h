// The value of --disk.
#pragma once

#include <string_view>

#include "hypervisor/runner/open_disk.h"

namespace vhdkit::hypervisor {

// FILE[,ro][,cache=none|writeback][,format=FORMAT][,iops=N][,bps=SIZE]. A comma of the file's name
// stands twice. Errors: invalid_argument, naming the word.
Result<DiskPlan> parse_disk(std::string_view text);

}  // namespace vhdkit::hypervisor
