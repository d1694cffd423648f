// vhd ctl top: a guest's rates, looked at again and again.
#pragma once

#include <chrono>
#include <optional>

#include "tools/control_client.h"

namespace vhdkit::tools {

struct TopOptions {
  std::chrono::duration<double> interval{2};
  std::optional<uint64_t> count;  // of intervals; nothing: until somebody ends it
};

// On a terminal one page, drawn anew after each interval, until q or a signal; then the terminal is
// as it was, and the process ends by the signal. Elsewhere a block of lines for each interval, with
// an empty line between them. Returns the exit code: 1, and says why, where the runner refuses.
// Errors: as ControlClient::ask(), also where the runner ends.
Result<int> run_top(ControlClient& client, const TopOptions& options);

}  // namespace vhdkit::tools
