// The memory that a GPA-direct packet names for a transfer.
#pragma once

#include <sys/uio.h>

#include <vector>

#include "vmbus/guest_memory.h"

namespace vhdkit::vmbus {

// Appends where the ranges of the descriptor lie in this process, in the guest's order; pages that
// lie side by side become one part.
//
// descriptor: what a packet of type gpa_direct has between its header and its payload: a count of
// ranges, then for each its length and offset in bytes and the numbers of all pages that it
// touches.
// Returns: bytes of all ranges.
// Errors: invalid_argument (lengths that contradict each other, a page that is no RAM, more than
// max_bytes).
Result<uint64_t> append_gpa_ranges(GuestMemory& memory, std::span<const std::byte> descriptor,
                                   uint64_t max_bytes, std::vector<iovec>& parts);

}  // namespace vhdkit::vmbus
