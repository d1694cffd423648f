#include "libvhd/check.h"
#include "vhdx/check.h"
#include "vhdx/create.h"

namespace vhdkit::vhdx {

Result<std::unique_ptr<disk::BulkWriter>> create(File& file, const CreateOptions&) {
  return fail(Errc::unsupported, file.name() + ": VHDX is not here yet");
}
Async<void> check(File&, disk::Findings&, disk::BlockUsage&) { co_return Result<void>(); }

}  // namespace vhdkit::vhdx

namespace vhdkit::libvhd {
Async<void> check(File&, disk::Findings&, disk::BlockUsage&) { co_return Result<void>(); }
}  // namespace vhdkit::libvhd
