// Single values of an existing file changed in place, through the log.
#pragma once

#include <optional>

#include "async/file.h"
#include "support/guid.h"
#include "vhdx/metadata.h"
#include "vhdx/parent_locator.h"
#include "vhdx/region_table.h"

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
  std::optional<uint64_t> disk_size_bytes;        // multiple of the logical sector, up to 64 TiB
  // Where the BAT region lies from now on. It has the entries already, durably. [MS-VHDX] 2.2.3:
  // both region tables are changed through the log too.
  std::optional<Region> bat;
  std::optional<Guid> data_write_guid;  // the image's identity, from the same moment on
};

// All of it becomes true at once: when a header names the log, whose one entry has it. A file that
// does not end on a whole MiB gets zeroes up to there first.
//
// A longer parent locator takes the metadata region's free space behind the last item; all other
// items stay where they are. [MS-VHDX] 2.6. Errors: as set_data_write_guid() and read_metadata();
// invalid_argument (a value that the item cannot have, a locator for an image without parent);
// no_space where the region has no room; unsupported (a log shorter than 1 MiB).
Async<void> change_metadata(File& file, const MetadataChange& change);

// Whether the disk can have that size, bytes. Errors: invalid_argument.
Result<void> check_new_disk_size(const File& file, const Metadata& metadata, uint64_t size_bytes);

// Replays the log on disk and rewrites damaged copies of headers and region tables.
Async<void> make_sound(File& file);

}  // namespace vhdkit::vhdx
