// What tells a guest about its optical drive and the medium (MMC-6).
#pragma once

#include "disk/geometry.h"
#include "vsp-storage/scsi/optical_state.h"

namespace vhdkit::scsi {

// One data track of blocks of 2048 bytes in one session, on what calls itself a DVD-ROM. Where a
// medium is needed, the caller knows that there is one.

// Pages 00 and 83.
Outcome inquire_optical(OpticalState& unit, const disk::Geometry&, const Command& command);
Outcome read_optical_capacity(OpticalState& unit, const disk::Geometry&, const Command& command);
// MMC-6 6.25, formats 0 (TOC), 1 (sessions) and 2 (raw TOC).
Outcome read_toc(OpticalState& unit, const disk::Geometry&, const Command& command);
// MMC-6 6.6.
Outcome get_configuration(OpticalState& unit, const disk::Geometry&, const Command& command);
// MMC-6 6.7, polled only, the media class only. An event is told once.
Outcome get_event_status(OpticalState& unit, const disk::Geometry&, const Command& command);
// MMC-6 6.22 and 6.27.
Outcome read_disc_information(OpticalState& unit, const disk::Geometry&, const Command& command);
Outcome read_track_information(OpticalState& unit, const disk::Geometry&, const Command& command);
// MMC-6 6.23: formats 0 (physical) and 1 (copyright: none) of a DVD.
Outcome read_disc_structure(OpticalState& unit, const disk::Geometry&, const Command& command);
// MMC-6 6.12.
Outcome mechanism_status(OpticalState& unit, const disk::Geometry&, const Command& command);
// Pages 01 (error recovery) and 2A (capabilities).
Outcome optical_mode_sense(OpticalState& unit, const disk::Geometry&, const Command& command);

}  // namespace vhdkit::scsi
