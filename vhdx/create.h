// New VHDX files, filled in bulk.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "disk/bulk_writer.h"
#include "support/guid.h"
#include "vhdx/format.h"
#include "vhdx/parent_locator.h"

namespace vhdkit::vhdx {

enum class DiskType { fixed, dynamic, differencing };

// What a differencing image keeps of its parent. Paths in UTF-8, with backslashes; at least one.
struct ParentLink {
  Guid data_write_guid;
  std::string relative_path;  // from the child's folder: ".\parent.vhdx"; empty: none is stored
  // As Windows will see it: "D:\vm\parent.vhdx", "\\server\share\parent.vhdx", or with \\?\ before
  // it, as it is stored; one that names a volume ("\\?\Volume{") is stored as such. Empty: none.
  std::string absolute_path;
  // One that the parent may have as well: while a merge gives it another. [MS-VHDX] 2.6.2.6.3.
  std::optional<Guid> other_data_write_guid = std::nullopt;
  // Other images that such a merge has put into the parent: key_merged.
  std::vector<Guid> merged_data_write_guids = {};
};

// The locator that names the parent. Errors: invalid_argument (no path, one that Windows does not
// know or that is too long).
Result<ParentLocator> locator_for(const ParentLink& parent);

struct CreateOptions {
  DiskType type = DiskType::dynamic;
  uint64_t size_bytes = 0;                // multiple of the logical sector size, up to 64 TiB
  uint32_t block_size_bytes = 32 * MiB;   // power of two, 1 MiB to 256 MiB
  uint32_t logical_sector_bytes = 512;    // 512 or 4096
  uint32_t physical_sector_bytes = 4096;  // 512 or 4096, at least the logical sector size
  Guid disk_id;
  Guid data_write_guid;
  std::optional<ParentLink> parent;  // set for differencing images, and only for them
};

// Starts a new image in an empty file, which outlives the writer. Layout, all on multiples of 1
// MiB: header section, log (1 MiB, empty), metadata region, BAT, payload blocks in the order in
// which they are placed. Both headers are valid and differ in their sequence number, the log GUID
// is zero. A fixed image has every block in its place from the beginning, fully present, and its
// whole length, so all its guest bytes lie contiguous; what is never written there stays a hole.
// Blocks of the others that are never placed are not present. What a caller places in a
// differencing image is fully present: it hides whole blocks of the parent.
//
// The BAT is written only where it has entries: what was never placed is a hole of the file, so a
// large empty image costs next to nothing. Memory: 4 bytes a block at most, none for large ranges
// in which no block was placed and none for a fixed image.
//
// Errors: invalid_argument, naming the option and what it may be.
Result<std::unique_ptr<disk::BulkWriter>> create(File& file, const CreateOptions& options);

}  // namespace vhdkit::vhdx
