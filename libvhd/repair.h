// Mending the footers of a dynamic or differencing VHD, which has two of them.
#pragma once

#include <string>
#include <vector>

#include "async/file.h"

namespace vhdkit::libvhd {

// Writes a footer that is missing or whose cookie or checksum is wrong again from the other one,
// byte for byte: the one at the tail from its copy at offset 0, or the copy from the tail's. A
// footer that is whole is never changed, also where the two differ; nor is anything else of the
// file, and no block's place is written to. A tail that was cut off is put behind the last
// structure in use, so the file may grow.
//
// One footer stays whole at every moment: a crash or a failed write leaves the image as readable as
// it was. The change is flushed.
//
// Returns a sentence for each thing done; none where nothing is to be mended, as for fixed disks,
// which have no copy.
// Errors: corrupt (no footer is whole, the header is damaged, or the BAT or a block of it lies in
// the wrong place or past the end, so that it is not sure where the footer belongs); unsupported;
// io; no_space.
Async<std::vector<std::string>> repair_footers(File& file);

}  // namespace vhdkit::libvhd
