// New images, empty or to be filled in bulk.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "disk/bulk_writer.h"
#include "image/format.h"
#include "image/image.h"
#include "image/profile.h"
#include "libvhd/create.h"
#include "vhdx/create.h"

namespace vhdkit::image {

// Chooses VHDX's default block size; the other formats have nothing to choose.
enum class GuestKind { any, linux };

// Everything that a new image can be told. Zero or empty: the format's default, after the
// profile's.
struct CreateOptions {
  Format format = Format::vhdx;
  std::optional<Subformat> subformat;  // default dynamic, differencing with a parent; raw has none
  uint64_t size_bytes = 0;             // of the guest's disk; 0 with a parent: the parent's
  uint64_t block_size_bytes = 0;       // VHD 2 MiB; VHDX 32 MiB, 1 MiB for Linux guests
  uint32_t logical_sector_bytes = 0;   // VHDX: 512 or 4096 (default 512); VHD has 512 only
  uint32_t physical_sector_bytes = 0;  // VHDX: 512 or 4096 (default 4096)
  // VHD unique id, VHDX virtual disk id. Default: random, for a VHDX with a parent the parent's.
  std::optional<Guid> disk_id;
  std::optional<Guid> data_write_guid;     // VHDX; default random
  std::optional<std::string> parent_path;  // -b: makes a differencing image
  // The parent's absolute path as Windows will see it; without it only the relative path is stored.
  std::optional<std::string> windows_parent_path;
  std::optional<Profile> profile;
  GuestKind guest = GuestKind::any;
  bool is_private = false;  // only its owner may read a new file
};

// The parent's part in a new differencing image, read from the opened parent.
struct ParentForCreation {
  Format format;
  Guid identity;
  uint32_t time_stamp = 0;  // VHD
  uint64_t size_bytes = 0;
  uint32_t logical_sector_bytes = 512;
  uint32_t physical_sector_bytes = 512;
  std::optional<Guid> disk_id;  // VHDX
  std::string relative_path;    // from the child's folder, with backslashes: ".\parent.vhdx"
  std::string absolute_path;    // Windows; empty: none is stored
};

// What a child at child_path keeps of the opened parent. Errors: invalid_argument where the
// parent's format has no children here, or its path cannot be written as a Windows path: it has a
// backslash, or is not UTF-8.
Result<ParentForCreation> describe_parent(Image& parent, const std::string& child_path,
                                          const CreateOptions& options);

// The same as each format keeps it.
libvhd::ParentLink vhd_parent_link(const ParentForCreation& parent);
vhdx::ParentLink vhdx_parent_link(const ParentForCreation& parent);

// Fills in every default and checks all options against each other, the format and the profile;
// opens nothing for writing. `parent` is null unless options.parent_path is set. Errors:
// invalid_argument, naming the option and what it may be.
Result<CreateOptions> settle(const CreateOptions& options, const ParentForCreation* parent);

// Starts the layout of a new image in an empty file that the caller owns and that outlives the
// writer. REQUIRES: options come from settle().
Result<std::unique_ptr<disk::BulkWriter>> make_writer(File& file, const CreateOptions& options,
                                                      const ParentForCreation* parent);

// Makes an empty image at path: beside it under a temporary name, flushed, then renamed. Reads
// parent_path with open_options. Nobody may read a new child who may not read its parent: what its
// guest writes is no less private than what it had. A replaced file keeps its permissions. Errors:
// as NewFile::begin(); invalid_argument where path is one of the parent's files; and as settle().
Async<void> create(async::Loop& loop, const std::string& path, const CreateOptions& options,
                   const OpenOptions& open_options, bool replace);

}  // namespace vhdkit::image
