#include <fmt/format.h>

#include "vhdx/check_parts.h"

namespace vhdkit::vhdx {
namespace {

using disk::Findings;
using disk::hex;
using disk::Severity;
using disk::Subject;

std::string without_file_name(std::string message, const File& file) {
  const std::string name = file.name() + ": ";
  return message.starts_with(name) ? message.substr(name.size()) : message;
}

// Why there is no plan.
void add_fault(const File& file, const LogContent& content, const Error& error, Subject& log) {
  const std::string message = fmt::format(
      "cannot be replayed, and what follows is checked without "
      "it: {}",
      without_file_name(error.message, file));
  if (!content.has_active_sequence())
    log.add(Severity::corruption, "vhdx-log-incomplete", "", 0, "", message);
  else if (file.size_bytes() < content.head().flushed_file_offset)
    log.add(Severity::corruption, "vhdx-file-truncated", "FlushedFileOffset",
            content.head().log_offset + offsetof(LogEntryHeader, flushed_file_offset),
            hex(content.head().flushed_file_offset), message);
  else
    log.add(Severity::corruption, "vhdx-log-misplaced-update", "", 0, "", message);
}

}  // namespace

Async<std::optional<ReplayPlan>> check_log(File& file, const FileHeader& header,
                                           Findings& findings) {
  if (header.log_is_empty()) co_return std::nullopt;
  CO_TRY_LET(const LogContent content, co_await read_log(file, header));
  Result<ReplayPlan> plan = plan_replay(file, header, content);
  Subject log(findings, "log", header.log_offset);
  if (!plan) {
    add_fault(file, content, plan.error(), log);
    co_return std::nullopt;
  }
  log.add(Severity::note, "vhdx-log-dirty", "", 0, std::to_string(content.active.size()),
          fmt::format("is not empty: a replay of {} entries writes {} sectors of 4 KiB and zeroes "
                      "{} bytes; what follows is checked as it will be then",
                      content.active.size(), plan->sectors_written(), plan->bytes_zeroed()));
  co_return std::move(*plan);
}

}  // namespace vhdkit::vhdx
