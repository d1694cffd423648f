// Commands that look at what the medium holds: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE.
#pragma once

#include "disk/disk.h"
#include "vsp-storage/scsi/disk_state.h"

namespace vhdkit::scsi {

// Content is read in pieces of at most limits::piece_bytes; VERIFY passes the gate for each, the
// others for the whole command. What differs ends with MISCOMPARE, and
// INFORMATION is the first differing byte's place in the compared range.

// SBC-3 5.26 to 5.29. BYTCHK 0: every block can be read; 1: each is the one in the buffers; 3: each
// is the single one there.
async::Task<Outcome> verify(DiskState& unit, disk::Disk& disk, const Command& command);

// SBC-3 5.35 to 5.38. Durable, then as VERIFY. BYTCHK 0 or 1.
async::Task<Outcome> write_and_verify(DiskState& unit, disk::Disk& disk, const Command& command);

// SBC-3 5.2, 0x89: at most limits::compare_and_write_blocks. REQUIRES: nothing else runs.
async::Task<Outcome> compare_and_write(DiskState& unit, disk::Disk& disk, const Command& command);

}  // namespace vhdkit::scsi
