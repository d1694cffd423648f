#include "image/repair.h"

#include <fmt/format.h>

#include "image/probe.h"
#include "libvhd/repair.h"
#include "vhdx/replay.h"

namespace vhdkit::image {
namespace {

Async<void> mend_vhdx(File& file, RepairReport& report) {
  CO_TRY_LET(const bool replayed, co_await vhdx::replay_on_disk(file));
  if (replayed) report.done.push_back("replayed the log and emptied it");
  CO_TRY_LET(const vhdx::RepairedCopies copies, co_await vhdx::repair_copies(file));
  if (copies.header) report.done.push_back("wrote the damaged header from the good one");
  if (copies.region_table)
    report.done.push_back("wrote the damaged region table from its good copy");
  co_return Result<void>();
}

Async<void> mend_vhd(File& file, RepairReport& report) {
  CO_TRY_LET(report.done, co_await libvhd::repair_footers(file));
  co_return Result<void>();
}

Result<void> refuse_unfit_format(const std::string& path, Format format, bool is_gzip) {
  if (is_gzip) return fail(Errc::unsupported, path + ": what is in a gzip file cannot be repaired");
  if (format == Format::vhd || format == Format::vhdx) return {};
  return fail(Errc::unsupported, fmt::format("{}: {} images cannot be repaired, only vhd and vhdx",
                                             path, format_name(format)));
}

}  // namespace

Async<RepairReport> repair(async::Loop& loop, const std::string& path, const OpenOptions& options,
                           std::optional<Profile> profile) {
  RepairReport report;
  {
    CO_TRY_LET(const auto file,
               async::SystemFile::open(loop, path, async::SystemFile::Access::read_write));
    Probed probed;
    if (options.format) {
      probed.format = *options.format;
    } else {
      CO_TRY_LET(probed, co_await probe(*file));
    }
    CO_TRY(refuse_unfit_format(path, probed.format, probed.gzip));
    Result<void> mended;
    if (probed.format == Format::vhdx) {
      mended = co_await mend_vhdx(*file, report);
    } else {
      mended = co_await mend_vhd(*file, report);
    }
    if (!mended) report.fault = std::move(mended).error().message;
  }
  CO_TRY_LET(report.after, co_await check(loop, path, options, profile));
  co_return std::move(report);
}

}  // namespace vhdkit::image
