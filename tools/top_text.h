// What vhd ctl top shows of a guest between two looks at its counters.
#pragma once

#include <string>

#include "tools/json.h"

namespace vhdkit::tools {

// What the control socket said at one moment. What is missing or odd in it is left out.
struct Look {
  double seconds;  // of a clock that runs steadily
  Json status;
  Json counters;
};

// Tables with their newlines: disks, channels, processors. Rates are those between the two looks; a
// row has "-" for them where there is nothing to compare with: before is null, the disk came or was
// exchanged, the guest was switched on, a counter went back.
//
// columns: at most so many characters stand in a line. Tables leave out their last columns rather
// than show parts of them; the rest is cut.
std::string top_text(const Look* before, const Look& now, size_t columns);

}  // namespace vhdkit::tools
