// Where the program says what went wrong: standard error while somebody is there, then the system's
// log.
#pragma once

#include <string_view>

namespace vhdkit::fuse {

void report(std::string_view message);
// From now on into the log (syslog(3), "vhd-mount").
void report_to_log();

}  // namespace vhdkit::fuse
