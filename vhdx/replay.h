// Changes of a VHDX file that make it whole: the replay of its log, and damaged copies rewritten
// from good ones.
#pragma once

#include "async/file.h"

namespace vhdkit::vhdx {

// Both need a file that is open for writing and that nobody else writes
// (SystemFile::Access::read_write). After a crash at any moment the file opens as it would have
// before, and a second call does the rest.

// Writes the log's active sequence to its places and empties the log. Returns false where the log
// was empty already: then nothing is written. [MS-VHDX] 2.3.3. Order, with a flush after each step:
//
//   both headers, one after the other, with a new FileWriteGuid; the log stays theirs
//   the file's new length, every update
//   both headers with no log GUID: from the first of them on the log is empty
//
// Updates are written in the same way however often it is done, and none touches the log. Zeroes
// are written where the file has data; holes stay holes. DataWriteGuid stays: the disk's content is
// what it was. Errors: as read_headers() and plan_replay(), found before anything is written; io,
// no_space.
Async<bool> replay_on_disk(File& file);

struct RepairedCopies {
  bool header = false;
  bool region_table = false;
};

// Rewrites a header or a region table that is damaged while its other copy is good, and nothing
// where none is. [MS-VHDX] 2.2.2.1, 2.2.3. Errors: as read_headers() and read_region_table();
// invalid_argument where the log is not empty; io.
Async<RepairedCopies> repair_copies(File& file);

}  // namespace vhdkit::vhdx
