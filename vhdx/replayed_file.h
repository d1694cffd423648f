// A file as it will be after replay of its log, with the file itself unchanged.
#pragma once

#include <memory>

#include "async/file.h"
#include "vhdx/headers.h"
#include "vhdx/log.h"

namespace vhdkit::vhdx {

// Reads the log that the header names and lays its active sequence over the file: reads see the
// updates, the size is at least LastFileOffset, holes stay holes, and ranges without updates keep
// their descriptor for copies inside the kernel. Nothing is written. A file whose log is empty
// comes back as it is. [MS-VHDX] 2.3.3.
//
// Updates are not kept in memory: data sectors are read from the log again, zeroes cost an
// interval. An update may not touch the first MiB (header section) except the region tables, nor
// the log itself: no writer does that, and a hostile one must not change what was validated
// already.
//
// Errors: corrupt (the log GUID is set and no sequence is complete; the file is shorter than
// FlushedFileOffset of the head; an update at a place that it must not touch, or beyond the largest
// size that a VHDX of 64 TiB can have); io.
Async<std::unique_ptr<File>> replay_in_memory(std::unique_ptr<File> file, const FileHeader& header);

}  // namespace vhdkit::vhdx
