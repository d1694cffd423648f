// Checks an image's every structure, also of images that cannot be opened.
#pragma once

#include <string>

#include "disk/finding.h"
#include "image/image.h"
#include "image/profile.h"

namespace vhdkit::image {

struct CheckReport {
  Format format;
  disk::Findings findings;
  uint64_t image_end_offset = 0;  // where the last structure in use ends, bytes
  uint64_t total_blocks = 0;
  uint64_t allocated_blocks = 0;
  uint64_t fragmented_blocks = 0;  // not behind their predecessor in the file
};

// Errors: not_found, permission, io, unsupported (no VHD or VHDX): the check could not be done.
Async<CheckReport> check(async::Loop& loop, const std::string& path, const OpenOptions& options,
                         std::optional<Profile> profile);

}  // namespace vhdkit::image
