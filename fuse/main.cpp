#include <fmt/format.h>
#include <signal.h>

#include "fuse/mount.h"
#include "fuse/report.h"
#include "tools/console.h"
#include "tools/help.h"

namespace vhdkit::fuse {
namespace {

constexpr std::string_view program = "vhd-mount";

int usage_error(std::string_view message) {
  tools::complain(message);
  tools::say(fmt::format("Try \"{} --help\".", program));
  return 1;
}

int finish_with(int code) {
  const auto printed = tools::finish_printing();
  if (!printed) tools::complain(printed.error().message);
  return printed ? code : 1;
}

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

int run(int argc, char** argv) {
  tools::open_missing_streams();
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (words.size() == 1 && (words[0] == "--version" || words[0] == "-V")) {
    tools::print(fmt::format("{} {}\n", program, VHDKIT_VERSION));
    return finish_with(0);
  }
  Mount mount;
  if (words.size() == 1 && words[0] == "--man") {
    tools::print(tools::verb_manual(program, mount, "vhd(1), mount(8), fusermount3(1)"));
    return finish_with(0);
  }
  tools::Arguments arguments;
  mount.declare(arguments);
  const auto parsed = arguments.parse(words);
  if (!parsed) return usage_error(parsed.error().message);
  if (*parsed == tools::Arguments::Outcome::help_wanted) {
    tools::print(tools::verb_help(mount, program));
    return finish_with(0);
  }
  return serve(mount);
}

}  // namespace
}  // namespace vhdkit::fuse

int main(int argc, char** argv) { return vhdkit::fuse::run(argc, argv); }
