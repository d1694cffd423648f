// Mends an image in place, and only with what it holds itself: its log, its good copies.
#pragma once

#include <string>
#include <vector>

#include "image/check.h"

namespace vhdkit::image {

struct RepairReport {
  std::vector<std::string>
      done;           // a sentence for each change, in order; empty: nothing was changed
  std::string fault;  // why mending ended early; empty where it did not
  CheckReport after;  // of the image as it is now
};

// VHDX: writes the log to its places and empties it, then rewrites a damaged header or region table
// from its good copy. VHD: rewrites a footer that is missing or damaged from the other one. Then
// checks the image as check() does. After a crash at any moment the image is as readable as it was,
// and a second call does the rest.
//
// Errors, with nothing changed: busy (somebody else holds the file); unsupported (raw, qcow2,
// gzip); not_found, permission, read_only, io; and as check().
Async<RepairReport> repair(async::Loop& loop, const std::string& path, const OpenOptions& options,
                           std::optional<Profile> profile);

}  // namespace vhdkit::image
