// Commands about the medium as a whole: starting and stopping, locking it in, flushing.
#pragma once

#include "disk/disk.h"
#include "vsp-storage/scsi/disk_state.h"

namespace vhdkit::scsi {

// Why a unit of this readiness does nothing with its medium; nothing where it is ready.
std::optional<Sense> not_ready(Readiness readiness);

// SBC-3 5.19. A stopped disk is NOT READY until it is started; a removable one goes on by itself,
// and is NOT READY only while its medium is ejected. Stopping and ejecting flush first, unless
// NO_FLUSH is set. Power conditions are accepted and change nothing. IMMED makes no difference.
async::Task<Outcome> start_stop_unit(DiskState& unit, disk::Disk& disk, const Command& command);

// SBC-3 5.17, 5.18. Flushes everything, whatever the range, which must be inside the disk. On a
// disk that is open for reading there is nothing to do.
async::Task<Outcome> synchronize_cache(DiskState& unit, disk::Disk& disk, const Command& command);

// SPC-4 6.13, for each initiator by itself.
Outcome prevent_allow_removal(RemovalLocks& locks, const Command& command);

}  // namespace vhdkit::scsi
