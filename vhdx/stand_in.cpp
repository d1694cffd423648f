#include "vhdx/check.h"

namespace vhdkit::vhdx {

Async<void> check(File&, disk::Findings&, disk::BlockUsage&) { co_return Result<void>(); }

}  // namespace vhdkit::vhdx
