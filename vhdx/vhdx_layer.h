// A VHDX file as a layer: fixed, dynamic or differencing.
#pragma once

#include <memory>

#include "disk/layer.h"

namespace vhdkit::vhdx {

struct OpenOptions {
  // Serve the file as it is where its log is not empty: what it shows may be stale or torn.
  bool ignore_log = false;
  // The layer gets a writer. A log that is not empty is replayed on disk, and damaged copies of
  // headers and region tables are repaired, before anything else is changed.
  bool writable = false;
  // The DataWriteGuid stays what it is, against [MS-VHDX] 2.2.2: for changes that no child can see.
  bool keep_identity = false;
};

// Reads headers, log, region table and metadata; the BAT and the sector bitmaps only when asked
// for, in pieces. The layer keeps at most a few MiB of them. A log that is not empty is replayed in
// memory: file() is then the file as it will be after replay.
//
// Fixed and dynamic disks read zeroes where a block is not present, undefined, zero or unmapped. A
// differencing disk answers "parent" where a block is not present, and by sector bitmap where it is
// partially present; undefined, zero and unmapped blocks are zeroes there too, never the parent's.
// [MS-VHDX] 2.5.1.1.
//
// describe() has, in this order: "type" (fixed, dynamic, differencing), "block-size",
// "logical-sector-size", "physical-sector-size", "disk-id", "data-write-guid", "file-write-guid",
// "log-state" ("clean", "dirty"; "replayed in memory" is said by "log-replay"), sizes and offsets
// of log, BAT and metadata region, "creator", parent linkage and paths, "warnings".
//
// REQUIRES: not both options; for a writable layer a file that is open for writing.
//
// Errors: corrupt; unsupported (version, unknown required region or item, locator type); io. A
// writable layer is refused where two blocks share their place in the file.
Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file, OpenOptions options);

}  // namespace vhdkit::vhdx
