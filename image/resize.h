// A disk made larger or smaller, in place.
#pragma once

#include <string>

#include "image/image.h"
#include "image/progress.h"

namespace vhdkit::image {

// How qemu-img says it: SIZE, +SIZE or -SIZE.
struct SizeChange {
  enum class Kind : uint8_t { to, by_more, by_less };
  Kind kind = Kind::to;
  uint64_t bytes = 0;
};

struct ResizeOptions {
  SizeChange size;
  bool shrink = false;  // what lies behind a smaller end may be cut off
};

struct ResizeReport {
  uint64_t old_bytes = 0;
  uint64_t new_bytes = 0;
};

// What the disk gets reads as zeroes: neither what lay there before, nor what a parent has there.
// After a crash at any moment it has the old or the new size, and its content. raw, VHD and VHDX
// are changed in place (libvhd/resize.h, vhdx/resize.h); a fixed VHD is made anew beside the old
// one and then takes its name, sharing its content where the file system can. It keeps its owner,
// its permissions and, where the system lets us, its extended attributes. progress may be null.
//
// An image that others have as their parent, as far as they can be known (known_children()), is
// refused, and so is a differencing VHD: Windows opens a VHD only with a parent of its own size. A
// differencing VHDX may have any size.
//
// Errors, with nothing changed: invalid_argument (a size that the format cannot have; a smaller one
// without shrink; known children); unsupported (another format, gzip, a device, a differencing VHD,
// a fixed VHD whose file has several names, and what the formats refuse); permission, also of a
// fixed VHD whose owner cannot be kept; busy; as Image::open(). Later: io, no_space; interrupted,
// of a fixed VHD.
Async<ResizeReport> resize(async::Loop& loop, const std::string& path, const ResizeOptions& options,
                           const OpenOptions& open_options, Progress* progress);

// What resize() would do to an image that is open already, for writing too; reads nothing of it.
// Errors: resize()'s with nothing changed, but for those that a look into its tables finds.
Async<ResizeReport> plan_resize(async::Loop& loop, Image& image, const ResizeOptions& options);

// What resize() and merge() both do, once everything else is checked.
struct NewSize {
  uint64_t size_bytes = 0;
  uint64_t parent_bytes = 0;   // of the parent's disk; 0 without one
  bool is_said_raw = false;    // raw whatever the bytes look like, as somebody said so
  bool keep_identity = false;  // the children see nothing of what a smaller disk loses
};
// For the layer at this depth of a chain, whose parent is the next one.
NewSize size_for(disk::LayeredDisk& chain, size_t depth, uint64_t size_bytes);
// Whether the layer's image can have this size: what resize_file() refuses, with nothing changed.
// Errors: unsupported; invalid_argument; as reading the image.
Async<void> check_resize(const std::string& path, Format format, disk::Layer& layer,
                         const NewSize& size);
// REQUIRES: check_resize() and the layer's audit() found nothing. is_fixed_vhd: as the layer says.
Async<void> resize_file(async::Loop& loop, const std::string& path, Format format,
                        bool is_fixed_vhd, const NewSize& size, Progress* progress);
bool is_fixed_vhd(Format format, const disk::Layer& layer);

}  // namespace vhdkit::image
