// Operation codes that more than one file needs. SPC-4 annex F.
#pragma once

#include <cstdint>

namespace vhdkit::scsi::opcode {

inline constexpr uint8_t request_sense = 0x03;
inline constexpr uint8_t inquiry = 0x12;
inline constexpr uint8_t mode_select6 = 0x15;
inline constexpr uint8_t mode_sense6 = 0x1a;
inline constexpr uint8_t write_same10 = 0x41;
inline constexpr uint8_t report_luns = 0xa0;

}  // namespace vhdkit::scsi::opcode
