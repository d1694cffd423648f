// Single values of an existing file changed in place, through the log.
#pragma once

#include <optional>

#include "async/file.h"
#include "support/guid.h"
#include "vhdx/parent_locator.h"

namespace vhdkit::vhdx {

// All of these need a file that is open for writing, with an empty log and both copies of headers
// and region tables whole (make_sound()). After a crash at any moment the file has the old values
// or, perhaps after replay of its log, the new ones. The changes are flushed.

// Gives the image another identity, so that children made before do not find it any more, and those
// that name the new one do. [MS-VHDX] 2.2.2. Errors: as read_headers(); invalid_argument where the
// log is not empty; io.
Async<void> set_data_write_guid(File& file, const Guid& data_write_guid);

struct MetadataChange {
  std::optional<Guid> disk_id;
  std::optional<uint32_t> physical_sector_bytes;  // 512 or 4096, at least the logical sector
  std::optional<ParentLocator> parent_locator;    // of a differencing image only
};

// A longer parent locator takes the metadata region's free space behind the last item; all other
// items stay where they are. [MS-VHDX] 2.6. Errors: as set_data_write_guid() and read_metadata();
// invalid_argument (a value that the item cannot have, a locator for an image without parent);
// no_space where the region has no room; unsupported (a log shorter than 1 MiB).
Async<void> change_metadata(File& file, const MetadataChange& change);

// Replays the log on disk and rewrites damaged copies of headers and region tables.
Async<void> make_sound(File& file);

}  // namespace vhdkit::vhdx
