// Conversion: a disk's content into a new image, by copying as little as possible.
#pragma once

#include <string>

#include "image/create.h"
#include "image/image.h"
#include "image/progress.h"

namespace vhdkit::image {

struct ConvertOptions {
  CreateOptions target;        // size_bytes 0: the source's
  bool replace = false;        // an existing target is replaced when the new one is whole
  unsigned request_count = 8;  // -m: transfers in flight
  bool allow_clone = true;     // share extents with the source where the file system can
};

// How the bytes got there.
struct ConvertReport {
  uint64_t disk_bytes = 0;    // the disk's size
  uint64_t copied_bytes = 0;  // read and written
  uint64_t cloned_bytes = 0;  // shared with the source by the file system
  uint64_t zero_bytes = 0;    // found to be zero while reading; the rest was known to be
  uint64_t file_bytes = 0;    // the target's size
};

// Converts the image's whole chain into one new image at target_path: written beside it under a
// temporary name, flushed, then renamed. The target is a source: Errc::invalid_argument.
Async<ConvertReport> convert(async::Loop& loop, Image& source, const std::string& target_path,
                             const ConvertOptions& options, Progress* progress);

// The same into a descriptor that may be a pipe: raw, fixed and dynamic VHD, VHDX. Reads the source
// twice where the table of blocks comes before them. The descriptor stays open.
Async<ConvertReport> convert_to_stream(async::Loop& loop, Image& source, int descriptor,
                                       const ConvertOptions& options, Progress* progress);

struct Measurement {
  uint64_t required_bytes = 0;         // the target's exact size for this content
  uint64_t fully_allocated_bytes = 0;  // with every block in use
};
Async<Measurement> measure(async::Loop& loop, Image& source, const ConvertOptions& options,
                           Progress* progress);

// Spools a stream that cannot seek into an unlinked sparse file in folder, and opens it as a raw
// image.
Async<std::unique_ptr<Image>> spool_stream(async::Loop& loop, int descriptor,
                                           const std::string& folder, Progress* progress);

}  // namespace vhdkit::image
