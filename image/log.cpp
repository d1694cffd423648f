#include "image/log.h"

#include <fmt/format.h>

#include "image/open_file.h"
#include "vhdx/replay_plan.h"

namespace vhdkit::image {

std::string_view log_state_name(LogState state) {
  switch (state) {
    case LogState::empty:
      return "empty";
    case LogState::dirty:
      return "dirty";
    case LogState::unusable:
      return "unusable";
  }
  __builtin_unreachable();
}

Async<LogReport> read_log_report(async::Loop& loop, const std::string& path,
                                 const OpenOptions& options) {
  const FileOptions file_options{.format = options.format, .force_share = options.force_share};
  CO_TRY_LET(const OpenedFile opened, co_await open_file(loop, path, file_options));
  if (opened.format != Format::vhdx)
    co_return fail(Errc::unsupported, fmt::format("{}: {} images have no log, only vhdx has", path,
                                                  format_name(opened.format)));
  LogReport report;
  CO_TRY_LET(const vhdx::FoundHeaders headers, co_await vhdx::read_headers(*opened.file));
  report.header = headers.current;
  report.file_bytes = opened.file->size_bytes();
  if (report.header.log_is_empty()) co_return std::move(report);
  CO_TRY_LET(report.content, co_await vhdx::read_log(*opened.file, report.header));
  const auto plan = vhdx::plan_replay(*opened.file, report.header, report.content);
  if (!plan) {
    report.state = LogState::unusable;
    report.fault = plan.error().message;
    co_return std::move(report);
  }
  report.state = LogState::dirty;
  report.sectors_written = plan->sectors_written();
  report.bytes_zeroed = plan->bytes_zeroed();
  report.replayed_file_bytes = plan->file_size_bytes;
  co_return std::move(report);
}

}  // namespace vhdkit::image
