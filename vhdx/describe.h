// What `info` shows of a VHDX.
#pragma once

#include "disk/description.h"
#include "vhdx/headers.h"
#include "vhdx/metadata.h"
#include "vhdx/region_table.h"

namespace vhdkit::vhdx {

// Everything that was read when the image was opened.
struct OpenedImage {
  FoundHeaders headers;
  RegionTable regions;
  Metadata metadata;
  bool log_was_ignored = false;  // a log that is not empty
};

// The keys are listed in vhdx_layer.h.
disk::Description describe(const OpenedImage& image);

}  // namespace vhdkit::vhdx
