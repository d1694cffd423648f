#include <signal.h>

#include "fuse/mount.h"
#include "fuse/report.h"
#include "tools/program.h"

namespace vhdkit::fuse {
namespace {

constexpr tools::Program program{.name = "vhd-mount",
                                 .see_also = "vhd(1), mount(8), fusermount3(1)"};

int serve(Mount& mount) {
  if (!mount.stays_in_foreground()) mount.background().begin();
  // A folder that nobody serves any more answers with a signal otherwise.
  signal(SIGPIPE, SIG_IGN);
  auto loop = async::Loop::create();
  const auto done = loop ? mount.run(**loop) : Result<int>(std::unexpected(loop.error()));
  if (!done) report(done.error().message);
  mount.background().done(done ? *done : 1);
  return done ? *done : 1;
}

}  // namespace
}  // namespace vhdkit::fuse

int main(int argc, char** argv) {
  vhdkit::fuse::Mount mount;
  return vhdkit::tools::run_program(vhdkit::fuse::program, mount, argc, argv,
                                    [&] { return vhdkit::fuse::serve(mount); });
}
