// PERSISTENT RESERVE IN and OUT (SPC-4 6.15, 6.16), RESERVE and RELEASE (SPC-2 7.17, 7.21).
#pragma once

#include "vsp-storage/scsi/reservations.h"

namespace vhdkit::scsi {

Outcome read_keys(const Reservations& reservations, const Command& command);
Outcome read_reservation(const Reservations& reservations, const Command& command);
Outcome report_reservation_capabilities(const Command& command);
Outcome read_full_status(const Reservations& reservations, const Command& command);

// All service actions but REGISTER AND MOVE and REPLACE LOST RESERVATION, which the table of
// operations refuses.
Outcome persistent_reserve_out(Reservations& reservations, const Command& command);

// Third-party reservations and those of extents, which SPC-2 made obsolete, are refused.
Outcome reserve(Reservations& reservations, const Command& command);
Outcome release(Reservations& reservations, const Command& command);

}  // namespace vhdkit::scsi
