// MODE SENSE and MODE SELECT over a list of pages (SPC-4 6.9 to 6.12, 7.5; SBC-3 6.5).
#pragma once

#include <vector>

#include "vsp-storage/scsi/sense.h"

namespace vhdkit::scsi {

// What stands behind a page's code and length.
struct ModePage {
  static constexpr size_t max_bytes = 30;
  using Bytes = std::array<uint8_t, max_bytes>;
  uint8_t code;
  uint8_t length;  // bytes of each of these
  Bytes current;
  Bytes changeable;  // a 1 for each bit that MODE SELECT may change
  Bytes initial;
};

struct ModeHeader {
  uint8_t medium_type;
  uint8_t device_specific;
  bool has_block_descriptor;
  uint64_t block_count;
  uint32_t block_bytes;
};

// Either length of CDB; current, changeable and default values. Saved ones are refused (SPC-4
// 5.10.4), and there are no subpages.
Outcome mode_sense(const std::vector<ModePage>& pages, const ModeHeader& header,
                   const Command& command);

// The pages of the parameter list with their new current values, once all of it is known to be
// right: pages that there are, whole, with nothing changed that cannot be. A block descriptor must
// say what is the case.
Checked<std::vector<ModePage>> mode_select(const std::vector<ModePage>& pages,
                                           const ModeHeader& header, const Command& command);

}  // namespace vhdkit::scsi
