#include "hypervisor/runner/run.h"
#include "tools/program.h"

int main(int argc, char** argv) {
  vhdkit::hypervisor::Run run;
  return vhdkit::tools::run_program({.name = "vhd-run", .see_also = "vhd(1), vhd-mount(1)"}, run,
                                    argc, argv, [&] { return run.run(); });
}
