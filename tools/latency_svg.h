// How long a guest's requests took, as a picture.
#pragma once

#include <string>

#include "tools/json.h"

namespace vhdkit::tools {

// counters: what vhd ctl counters, or vhd-run --report, has. For each unit the reads and the writes
// by the time that they took, each column twice as far as the one before. What is missing or odd is
// left out. An SVG file.
std::string latency_svg(const Json& counters);

}  // namespace vhdkit::tools
