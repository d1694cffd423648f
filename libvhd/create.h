// New VHD files, filled in bulk.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "disk/bulk_writer.h"
#include "libvhd/format.h"
#include "support/guid.h"

namespace vhdkit::libvhd {

// A BAT entry counts sectors in 32 bits, and Windows stops at this size.
inline constexpr uint64_t max_dynamic_bytes = 2040 * GiB;
inline constexpr uint64_t max_fixed_bytes = 64 * TiB;

// What a differencing image keeps of its parent. Paths in UTF-8, with backslashes.
struct ParentLink {
  Guid unique_id;
  uint32_t time_stamp = 0;    // the parent's
  std::string relative_path;  // from the child's folder: ".\parent.vhd"
  std::string absolute_path;  // as Windows will see it; empty: none is stored
  std::string name;           // display name; cut after 255 UTF-16 units
};

struct CreateOptions {
  DiskType type = DiskType::dynamic;
  uint64_t size_bytes = 0;                          // multiple of 512
  uint32_t block_size_bytes = default_block_bytes;  // power of two, at least 512 KiB; not for fixed
  Guid unique_id;
  uint32_t time_stamp = 0;           // seconds since 2000-01-01 00:00:00 UTC
  std::optional<ParentLink> parent;  // set for differencing images, and only for them
};

// Starts a new image in an empty file, which outlives the writer. Creator is "win " on "Wi2k", so
// Azure and QEMU take the size as it is; block data lies on multiples of 4 KiB; the BAT has exactly
// as many entries as the disk has blocks. Block bitmaps are all ones, so what a caller places in a
// differencing image hides whole blocks of the parent.
//
// Errors: invalid_argument, naming the option and what it may be.
Result<std::unique_ptr<disk::BulkWriter>> create(File& file, const CreateOptions& options);

}  // namespace vhdkit::libvhd
