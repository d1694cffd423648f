// READ and WRITE: the guest's own buffers, straight to and from the disk.
#pragma once

#include "disk/disk.h"
#include "vsp-storage/scsi/block_range.h"
#include "vsp-storage/scsi/disk_state.h"

namespace vhdkit::scsi {

// What a READ or WRITE moves: the first `bytes` of the buffers.
struct Transfer {
  uint64_t disk_offset;
  uint64_t bytes;  // whole blocks; fewer than the CDB says where the buffers hold fewer (overrun)
  Buffers buffers;
  bool overrun;
};

// Errors: INVALID FIELD IN CDB where protection information is asked for (there is none, SBC-3
// 4.22); LOGICAL BLOCK ADDRESS OUT OF RANGE.
Checked<Transfer> plan_transfer(const Command& command, Direction direction, uint64_t block_count,
                                uint32_t block_bytes);

// The buffers themselves where a cut falls between two of them; nothing where one must be cut.
std::optional<Buffers> exactly(Buffers buffers, uint64_t bytes);

// SBC-3 5.8 to 5.11. Of a block that the buffers hold in part, that part is moved as well. FUA
// needs no flush: what is read is the newest, wherever it lies, and a guest cannot tell the two
// apart before a crash; one that wants it durable has SYNCHRONIZE CACHE.
async::Task<Outcome> read_blocks(DiskState& unit, disk::Disk& disk, const Command& command);

// SBC-3 5.31 to 5.34. A part of a block is not written. Durable with FUA and where the write cache
// is off.
async::Task<Outcome> write_blocks(DiskState& unit, disk::Disk& disk, const Command& command);

// An outcome that is known already.
async::Task<Outcome> done(Outcome outcome);

}  // namespace vhdkit::scsi
