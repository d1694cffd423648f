// A checkpoint of a disk, as Hyper-V makes them.
#pragma once

#include <string>
#include <string_view>

#include "image/image.h"

namespace vhdkit::image {

// "disk.vhdx" and "disk_0E9A….avhdx" become "disk_GUID.avhdx", in the same folder, with the GUID in
// upper case; VHDs become .avhd.
std::string checkpoint_path(const std::string& path, Format format, const Guid& guid);

struct SnapshotOptions {
  std::string child_path;  // empty: checkpoint_path() with a random GUID
};

// Makes an empty child of the image that takes its place: from now on the disk's changes go there,
// and the image stays as it is. The child has the image's block and sector sizes and, as VHDX, its
// virtual disk identifier, so a guest sees the same disk. Nobody may read the child who may not
// read the image. Returns the child's path. Errors: exists; invalid_argument (a format without
// children); and as Image::open() and create().
Async<std::string> snapshot(async::Loop& loop, const std::string& path,
                            const SnapshotOptions& options, const OpenOptions& open_options);

}  // namespace vhdkit::image
