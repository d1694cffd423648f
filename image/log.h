// What the log of a VHDX file holds, and what its replay would do, for people.
#pragma once

#include <string>
#include <vector>

#include "async/loop.h"
#include "image/image.h"
#include "vhdx/log.h"

namespace vhdkit::image {

enum class LogState {
  empty,     // the header's log GUID is zero: nothing in the log counts
  dirty,     // it must be replayed, and can be
  unusable,  // it must be replayed, and cannot be
};
std::string_view log_state_name(LogState state);

struct LogReport {
  vhdx::FileHeader header;  // where the log lies, and its GUID
  LogState state = LogState::empty;
  std::string fault;  // unusable: why
  // Valid entries, those of them that a replay takes, and what is damaged. Nothing where the log is
  // empty.
  vhdx::LogContent content;
  uint64_t file_bytes = 0;  // as the file is

  // Dirty: what the replay would change, each place counted once.
  uint64_t sectors_written = 0;  // of 4 KiB
  uint64_t bytes_zeroed = 0;
  uint64_t replayed_file_bytes = 0;
};

// Reads only. options: the format is taken. Errors: not_found, permission; unsupported where the
// image is none of VHDX's, naming its format; as vhdx::read_headers(); io.
Async<LogReport> read_log_report(async::Loop& loop, const std::string& path,
                                 const OpenOptions& options);

}  // namespace vhdkit::image
