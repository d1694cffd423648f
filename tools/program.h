// Programs that have one verb only, of which they take the name: vhd-mount, vhd-run.
#pragma once

#include <functional>

#include "tools/verb.h"

namespace vhdkit::tools {

struct Program {
  std::string_view name;
  std::string_view see_also;  // of the manual: "vhd(1), mount(8)"
};

// Takes --version, --man and --help itself; else parses the arguments and calls work, which returns
// the exit code. What was printed and did not arrive makes it a failure.
int run_program(const Program& program, Verb& verb, int argc, char** argv,
                const std::function<int()>& work);

}  // namespace vhdkit::tools
