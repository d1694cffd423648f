// Moves a disk's content into the layout of a new image: clones what the file system can share,
// copies the rest.
#pragma once

#include "disk/bulk_writer.h"
#include "image/content.h"
#include "image/convert.h"

namespace vhdkit::image {

// Says whether a part of the disk holds anything but zeroes, reading no more than it must.
class ZeroProbe {
 public:
  explicit ZeroProbe(disk::LayeredDisk& disk);
  Async<bool> is_zero(disk::Extent extent);

 private:
  disk::LayeredDisk& disk_;
  std::vector<std::byte> buffer_;
};

// Gives a place to every block that holds anything but zeroes, in guest order, and moves nothing:
// the layout that transfer() comes to. Returns which blocks have a place; a writer without blocks
// has one, the disk.
Async<std::vector<bool>> place_blocks(disk::LayeredDisk& source, disk::BulkWriter& writer,
                                      Progress* progress);

// Brings the content to its places: by clones where both files lie on a file system that shares
// extents, else with reads and writes in flight at once. Adds to the report. The caller finishes
// the writer.
Async<void> transfer(disk::LayeredDisk& source, disk::BulkWriter& writer,
                     const ConvertOptions& options, Progress* progress, ConvertReport& report);

// Errc::interrupted once the user has had enough.
Result<void> report_progress(Progress* progress, uint64_t done_bytes, uint64_t total_bytes);

}  // namespace vhdkit::image
