#include "fuse/background.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <utility>

#include "fuse/report.h"

namespace vhdkit::fuse {
namespace {

[[noreturn]] void end_with_the_other(int report) {
  unsigned char code = 1;
  if (read(report, &code, 1) != 1) code = 1;  // it died before it could say so
  _exit(code);
}

}  // namespace

void Background::begin() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return;
  const pid_t pid = fork();
  if (pid > 0) {
    close(ends[1]);
    end_with_the_other(ends[0]);
  }
  close(ends[0]);
  report_ = ends[1];
  if (pid == 0) setsid();
}

bool Background::done(int exit_code) {
  const int report = std::exchange(report_, -1);
  if (report < 0) return true;
  if (exit_code == 0) {
    report_to_log();
    const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int stream : {0, 1, 2}) dup2(nothing, stream);
    if (nothing > 2) close(nothing);
    [[maybe_unused]] const int moved = chdir("/");
  }
  const auto code = static_cast<unsigned char>(exit_code);
  const bool is_told = write(report, &code, 1) == 1;
  close(report);
  return is_told;
}

}  // namespace vhdkit::fuse
