// The images that have a given one as their parent, as far as they can be known.
#pragma once

#include <string>
#include <vector>

#include "async/loop.h"
#include "disk/layer.h"

namespace vhdkit::image {

// Of the VHD and VHDX files in the image's own folder, by their names' ends (.vhd, .vhdx, .avhd,
// .avhdx), those whose parent locator names its identity: their paths, sorted, and none for a file
// that is there already. An image that is a symbolic link has two folders, the link's and its
// target's. A file that cannot be read as an image is nobody's child, nor is a gzip file. Looks at
// no more than a thousand files. Errors: none so far.
Async<std::vector<std::string>> known_children(async::Loop& loop, const std::string& path,
                                               const disk::Layer& layer);

}  // namespace vhdkit::image
