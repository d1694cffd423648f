// A range of a file made zero, in the cheapest way that the file system has.
#pragma once

#include "async/file.h"

namespace vhdkit::disk {

// Punches a hole, or writes zeroes where the file system knows no holes. Not durable before the
// next flush. REQUIRES: the range lies inside the file. Errors: io, no_space.
Async<void> zero_range(File& file, uint64_t file_offset, uint64_t length);

}  // namespace vhdkit::disk
