// How much one command may ask for, as page B0 reports it, and how it is done in pieces.
#pragma once

#include "support/checked.h"

namespace vhdkit::scsi::limits {

inline constexpr uint32_t unmap_blocks = uint32_t{1} << 20;
inline constexpr uint32_t unmap_descriptors = 256;
inline constexpr uint64_t write_same_bytes = 64 * MiB;
inline constexpr uint8_t compare_and_write_blocks = 32;

// Of the disk's content in memory at once, for one command.
inline constexpr uint64_t piece_bytes = 256 * KiB;

}  // namespace vhdkit::scsi::limits
