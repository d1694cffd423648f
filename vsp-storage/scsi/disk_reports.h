// What tells a guest about its disk without touching a block: capacity, modes, log, sense.
#pragma once

#include "disk/disk.h"
#include "vsp-storage/scsi/disk_state.h"

namespace vhdkit::scsi {

Outcome read_capacity10(DiskState& unit, const disk::Geometry& geometry, const Command& command);
// SBC-3 5.16.
Outcome read_capacity16(DiskState& unit, const disk::Geometry& geometry, const Command& command);

// MODE SENSE and MODE SELECT with the pages caching (08), control (0A) and informational exceptions
// (1C). What may be changed: WCE and SWP.
Outcome disk_mode_sense(DiskState& unit, const disk::Geometry& geometry, const Command& command);
// Where the write cache is switched off, what it holds is flushed. REQUIRES: nothing else runs.
async::Task<Outcome> disk_mode_select(DiskState& unit, disk::Disk& disk, const Command& command);

// LOG SENSE, SPC-4 6.8: pages 00 (supported pages) and 2F (informational exceptions: none).
Outcome log_sense(DiskState& unit, const disk::Geometry& geometry, const Command& command);

// SEND DIAGNOSTIC, SPC-4 6.42: the default self-test, which passes.
Outcome send_diagnostic(DiskState& unit, const disk::Geometry& geometry, const Command& command);

// REQUEST SENSE, SPC-4 6.39: a unit attention, told herewith, else `state`.
Outcome request_sense(UnitAttentions& attentions, const Sense& state, const Command& command);

// PRE-FETCH, SBC-3 5.7: only the range is checked.
Outcome prefetch(DiskState& unit, const disk::Geometry& geometry, const Command& command);

}  // namespace vhdkit::scsi
