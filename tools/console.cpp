#include "tools/console.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/text.h"

namespace vhdkit::tools {
namespace {

int first_print_error = 0;  // errno

void write_line(const std::string& line) {
  fwrite(line.data(), 1, line.size(), stderr);  // whoever closed it wants no messages
}

}  // namespace

void open_missing_streams() {
  for (const int descriptor : {0, 1, 2}) {
    if (fcntl(descriptor, F_GETFD) >= 0) continue;
    // Open in the wrong direction: reading standard input and writing the others fail.
    [[maybe_unused]] const int opened = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY);
  }
}

void print(std::string_view text) {
  if (first_print_error != 0) return;
  if (fwrite(text.data(), 1, text.size(), stdout) != text.size()) first_print_error = errno;
}

Result<void> finish_printing() {
  if (fflush(stdout) != 0 && first_print_error == 0) first_print_error = errno;
  if (first_print_error != 0) return fail_errno(first_print_error, "standard output");
  return {};
}

int finish_printing(int code, int failure_code) {
  const auto printed = finish_printing();
  if (printed) return code;
  complain(printed.error().message);
  return code == 0 ? failure_code : code;
}

void complain(std::string_view message) {
  write_line(fmt::format("{}: {}\n", program_invocation_short_name, printable(message)));
}

void warn(std::string_view message) {
  write_line(fmt::format("{}: warning: {}\n", program_invocation_short_name, printable(message)));
}

void say(std::string_view message) { write_line(fmt::format("{}\n", message)); }

}  // namespace vhdkit::tools
