// The parts of a check, in the order in which they run; each goes as far as the one before allows.
#pragma once

#include <optional>
#include <vector>

#include "async/file.h"
#include "disk/subject.h"
#include "libvhd/block_layout.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

using disk::hex;
using disk::Subject;

// The footer to go on with, valid or not.
struct FooterToCheck {
  HardDiskFooter footer;
  uint64_t content_end = 0;  // bytes: where the footer at the tail begins, else the file's end
};

// The footer and its copy. Nothing where neither tells a disk.
Async<std::optional<FooterToCheck>> check_footers(File& file, disk::Findings& findings);

// The Dynamic Disk Header. Nothing where it tells no BAT.
Async<std::optional<DynamicDiskHeader>> check_header(File& file, const FooterToCheck& footer,
                                                     disk::Findings& findings);

// What a differencing image says of its parent. header_offset: bytes, where the header lies.
void check_parent(const BlockLayout& layout, uint64_t header_offset,
                  const DynamicDiskHeader& header, const std::vector<LocatedParent>& located,
                  disk::Findings& findings);

// The BAT, the blocks' places and bitmaps, and the space between all structures. type: dynamic or
// differencing. usage.image_end_offset becomes the end of the last block or structure.
Async<void> check_blocks(File& file, const BlockLayout& layout, DiskType type,
                         disk::Findings& findings, disk::BlockUsage& usage);

}  // namespace vhdkit::libvhd
