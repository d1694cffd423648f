#include "fuse/report.h"

#include <syslog.h>

#include <string>

#include "tools/console.h"

namespace vhdkit::fuse {
namespace {

bool goes_to_log = false;

}  // namespace

void report(std::string_view message) {
  if (goes_to_log) {
    syslog(LOG_ERR, "%s", std::string(message).c_str());
  } else {
    tools::complain(message);
  }
}

void report_to_log() {
  openlog("vhd-mount", LOG_PID, LOG_DAEMON);
  goes_to_log = true;
}

}  // namespace vhdkit::fuse
