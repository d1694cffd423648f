// The metadata region: what the disk is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "async/file.h"
#include "support/guid.h"
#include "vhdx/format.h"
#include "vhdx/parent_locator.h"
#include "vhdx/region_table.h"

namespace vhdkit::vhdx {

// An item of the metadata table, whether it is known or not.
struct MetadataItem {
  Guid id;
  uint32_t offset = 0;  // bytes from the region's start; 0 where the item is empty
  uint32_t length = 0;  // bytes
  uint32_t flags = 0;   // metadata_is_user, …

  bool is_user() const { return (flags & metadata_is_user) != 0; }
  bool is_required() const { return (flags & metadata_is_required) != 0; }
};

// "virtual disk size", "item GUID"
std::string item_name(const Guid& id);
// Users may have items of any identifier: only system items are known ones.
bool is_known_item(const MetadataItem& item);

struct Metadata {
  uint32_t block_size_bytes = 0;
  bool leave_blocks_allocated = false;  // a fixed disk, where it has no parent
  bool has_parent = false;              // a differencing disk, whatever leave_blocks_allocated says
  uint64_t disk_size_bytes = 0;
  Guid disk_id;
  uint32_t logical_sector_bytes = 0;   // 512 or 4096
  uint32_t physical_sector_bytes = 0;  // 512 or 4096
  std::optional<ParentLocator> parent_locator;
  std::vector<MetadataItem> unknown;  // not required; kept as they are

  bool is_fixed() const { return leave_blocks_allocated && !has_parent; }
};

// Reads the table and the known items. [MS-VHDX] 2.6.
//
// file: as it is after replay of the log. Messages begin with its name and name the item.
// Errors: corrupt (signature; entry count; an item that is twice there, outside the region, upon
// another, too short, missing or of a value that the specification does not allow; a differencing
// disk without parent locator); unsupported (a required item that nobody here knows, by its GUID; a
// locator type other than VHDX's); io.
Async<Metadata> read_metadata(File& file, const Region& region);

// The whole region (1 MiB): table, known items with the flags that [MS-VHDX] 2.6.2 prescribes.
// REQUIRES: valid values; no unknown items; the locator fits.
inline constexpr uint64_t metadata_region_bytes = 1 * MiB;
std::vector<std::byte> build_metadata(const Metadata& metadata);
// How many bytes of the region that takes, with what lies before: to write no more than that.
uint64_t metadata_used_bytes(const Metadata& metadata);

}  // namespace vhdkit::vhdx
