// The parts of a check, in the order in which they run; each goes as far as the one before allows.
#pragma once

#include <optional>
#include <vector>

#include "disk/subject.h"
#include "vhdx/block_places.h"
#include "vhdx/replay_plan.h"

namespace vhdkit::vhdx {

// The File Type Identifier and both headers. The header to go on with, valid or not; nothing where
// none has so much as a signature and a version that is known here. Its log GUID is zero where
// there is nothing to replay or the log cannot be trusted, its log length is zero where the log has
// no place in the file.
Async<std::optional<FileHeader>> check_headers(File& file, disk::Findings& findings);

// The log, where the header says that it is not empty. Nothing where it cannot be replayed.
Async<std::optional<ReplayPlan>> check_log(File& file, const FileHeader& header,
                                           disk::Findings& findings);

// Regions that lie in the file, by themselves.
struct RegionsToCheck {
  std::optional<Region> bat;
  std::optional<Region> metadata;
  // With the header section and the log, in the order of the file.
  std::vector<Structure> structures;
};
// Both copies of the region table, and where the regions lie.
Async<RegionsToCheck> check_regions(File& file, const FileHeader& header, disk::Findings& findings);

// The metadata table, its items, and their values. Nothing where they tell no blocks.
Async<std::optional<Metadata>> check_metadata(File& file, const Region& region,
                                              disk::Findings& findings);

// item: the whole parent locator, which lies at file_offset.
void check_parent_locator(std::span<const std::byte> item, uint64_t file_offset,
                          disk::Findings& findings);

struct ImageToCheck {
  ImageLayout layout;
  uint64_t bat_bytes = 0;  // of the BAT region
  bool is_fixed = false;
};
// The places that BAT entries name and that lie in the file, upon nothing that is no block.
struct BlocksToCheck {
  BlockPlaces allocated;
  // Undefined and unmapped blocks that keep their place.
  BlockPlaces kept;
  // False: there are more than the file has room for, so only some are here.
  bool are_all = true;
};
// The BAT, entry by entry.
Async<BlocksToCheck> check_blocks(File& file, const ImageToCheck& image, disk::Findings& findings,
                                  disk::BlockUsage& usage);

// Whether blocks lie apart, and the space between all structures. Sets usage.image_end_offset.
void check_space(const ImageToCheck& image, BlocksToCheck& blocks, disk::Findings& findings,
                 disk::BlockUsage& usage);

}  // namespace vhdkit::vhdx
