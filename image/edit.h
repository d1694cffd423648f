// What an image says of itself and of its parent, changed in place.
#pragma once

#include <optional>
#include <string>

#include "image/image.h"

namespace vhdkit::image {

struct SetOptions {
  std::optional<Guid> disk_id;          // VHDX: virtual disk identifier; VHD: unique identifier
  std::optional<Guid> data_write_guid;  // VHDX
  std::optional<uint32_t> physical_sector_bytes;  // VHDX: 512 or 4096
  bool force = false;                             // change an identity that children name
};

// Changes the values that are given. A log is replayed on disk and damaged copies are repaired
// first. After a crash each value is the old or the new one. Errors, with nothing changed:
// invalid_argument (a value that the format does not have, or cannot have; an identity that images
// in the same folder name as their parent's, unless forced); unsupported (raw, qcow2, gzip); busy;
// as Image::open(); io.
Async<void> set(async::Loop& loop, const std::string& path, const SetOptions& options,
                const OpenOptions& open_options);

struct ReparentOptions {
  std::string parent_path;
  // As Windows will see it; without it only the relative path is stored.
  std::optional<std::string> windows_parent_path;
  bool force = false;  // take a parent that has another identity than the child names
};

// Makes a differencing image name the file as its parent, by the path from its folder and by the
// parent's identity as it is now. After a crash it names the old or the new one. Errors, with
// nothing changed: invalid_argument (not a differencing image; a parent of another format, with
// other sectors, or one whose chain has the child in it); wrong_parent (another identity, unless
// forced); busy; as Image::open(); io.
Async<void> reparent(async::Loop& loop, const std::string& path, const ReparentOptions& options,
                     const OpenOptions& open_options);

}  // namespace vhdkit::image
