#include "disk/layer.h"

namespace vhdkit::disk {

std::optional<Extent> Layer::peek(uint64_t, uint64_t) { return std::nullopt; }

Async<void> Layer::read_encoded(const Extent&, uint64_t, std::span<std::byte>) {
  co_return fail(Errc::unsupported, file().name() + ": this format has no encoded extents");
}

}  // namespace vhdkit::disk
