// Commands about blocks as a whole: UNMAP, WRITE SAME, GET LBA STATUS.
#pragma once

#include "disk/disk.h"
#include "vsp-storage/scsi/disk_state.h"

namespace vhdkit::scsi {

// What is unmapped reads as zeroes (LBPRZ), since Disk::zero() promises it; blocks that are no
// whole block of the image are therefore written. Limits are those of command_limits.h, and page
// B0's.

// SBC-3 5.25. All descriptors are looked at before the first is done; where one fails, those before
// it are done. Durable after the next flush, at once where the write cache is off.
async::Task<Outcome> unmap(DiskState& unit, disk::Disk& disk, const Command& command);

// SBC-3 5.39, 5.40, with UNMAP and NDOB. Zeroes become Disk::zero(); any other block is written
// over and over in pieces of limits::piece_bytes. 0 blocks: up to the end.
async::Task<Outcome> write_same(DiskState& unit, disk::Disk& disk, const Command& command);

// SBC-3 5.6. Deallocated is what the disk has no data for. At most 256 descriptors, and no more
// than what a bounded look at the disk's extents gives: a guest goes on from the last one's end.
async::Task<Outcome> get_lba_status(DiskState& unit, disk::Disk& disk, const Command& command);

}  // namespace vhdkit::scsi
