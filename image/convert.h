// Conversion: a disk's content into a new image, by copying as little as possible.
#pragma once

#include <string>

#include "image/create.h"
#include "image/image.h"
#include "image/progress.h"

namespace vhdkit::image {

inline constexpr unsigned max_request_count = 16;

struct ConvertOptions {
  // size_bytes 0: the source's, rounded up to the target's sectors and to the profile's unit
  // (Azure: 1 MiB). What lies beyond the source's end is zero.
  CreateOptions target;
  bool replace = false;        // an existing target is replaced when the new one is whole
  unsigned request_count = 8;  // -m: transfers in flight, 1 to max_request_count
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
// temporary name, flushed, then renamed. All options are checked before that; any failure leaves
// what lay there as it was.
//
// Errors: invalid_argument (options contradict each other, the target is one of the source's files,
// the source is empty); interrupted; as create(), NewFile::begin() and Image::open().
Async<ConvertReport> convert(async::Loop& loop, Image& source, const std::string& target_path,
                             const ConvertOptions& options, Progress* progress);

// The same into a descriptor that may be a pipe, from where it stands: byte for byte what convert()
// writes into a file. Reads the source twice where the table of blocks comes before them. The
// descriptor stays open.
Async<ConvertReport> convert_to_stream(async::Loop& loop, Image& source, int descriptor,
                                       const ConvertOptions& options, Progress* progress);

struct Measurement {
  uint64_t required_bytes = 0;         // the target's exact size for this content
  uint64_t fully_allocated_bytes = 0;  // with every block in use
};
Async<Measurement> measure(async::Loop& loop, Image& source, const ConvertOptions& options,
                           Progress* progress);

// Opens what comes out of a descriptor, such as standard input, as a raw image. A regular file or
// block device that stands at its beginning is read in place; anything else is spooled to its end
// into an unlinked sparse file in folder, the progress counting what came. The descriptor stays
// open, and the caller's.
Async<std::unique_ptr<Image>> open_stream(async::Loop& loop, int descriptor,
                                          const std::string& folder, Progress* progress);

}  // namespace vhdkit::image
