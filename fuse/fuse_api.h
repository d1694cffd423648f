// libfuse's low-level interface, in the version that this program is written for.
#pragma once

#define FUSE_USE_VERSION 35
#include <fuse3/fuse_lowlevel.h>

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace vhdkit::fuse {

// Room for one request: the largest write and its header, as libfuse 3.14 reads them.
inline constexpr size_t max_transfer_bytes = 1 << 20;
inline constexpr size_t request_bytes = max_transfer_bytes + 4096;

struct FreeBytes {
  void operator()(std::byte* bytes) const { std::free(bytes); }
};
using RequestBytes = std::unique_ptr<std::byte, FreeBytes>;

}  // namespace vhdkit::fuse
