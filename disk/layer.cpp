#include "disk/layer.h"

namespace vhdkit::disk {

Async<void> Layer::read_encoded(const Extent&, uint64_t, std::span<std::byte>) {
  co_return fail(Errc::unsupported, file().name() + ": this format has no encoded extents");
}

}  // namespace vhdkit::disk
