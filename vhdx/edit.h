// Single values of an existing file changed in place.
#pragma once

#include "async/file.h"
#include "support/guid.h"

namespace vhdkit::vhdx {

// Gives the image another identity, so that children made before do not find it any more, and those
// that name the new one do. Both headers are written, with a new FileWriteGuid too; after a crash
// the old or the new one is there. [MS-VHDX] 2.2.2. REQUIRES: the file is open for writing.
// Errors: as read_headers(); invalid_argument where the log is not empty; io.
Async<void> set_data_write_guid(File& file, const Guid& data_write_guid);

}  // namespace vhdkit::vhdx
