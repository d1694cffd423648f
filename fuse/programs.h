// Other programs run to their end.
#pragma once

#include <string>
#include <vector>

#include "support/result.h"

namespace vhdkit::fuse {

// words[0] is looked for in PATH. Standard output goes to standard error. Errors: not_found (no
// such program); io, with the program's exit code.
Result<void> run_program(const std::vector<std::string>& words);

// Whether there is such a program in PATH.
bool has_program(const std::string& name);

}  // namespace vhdkit::fuse
