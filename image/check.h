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
  disk::BlockUsage usage;
};

// Errors: not_found, permission, io, unsupported (no VHD or VHDX): the check could not be done.
Async<CheckReport> check(async::Loop& loop, const std::string& path, const OpenOptions& options,
                         std::optional<Profile> profile);

}  // namespace vhdkit::image
