#include "image/check.h"

#include <fmt/format.h>

#include <filesystem>

#include "image/open_file.h"
#include "libvhd/check.h"
#include "vhdx/check.h"

namespace vhdkit::image {
namespace {

using disk::Severity;

Result<bool> has_holes(File& file) {
  TRY_LET(const std::optional<async::FileRange> first, file.next_data(0, file.size_bytes()));
  return file.size_bytes() > 0 && (!first || first->length < file.size_bytes());
}

uint64_t parent_bytes(disk::LayeredDisk& chain) {
  return chain.layer_count() > 1 ? chain.layer(1).geometry().size_bytes : 0;
}

ImageFacts facts_of(Image& image, const OpenedFile& opened, bool is_sparse) {
  disk::Layer& layer = image.disk().layer(0);
  const disk::Description description = layer.describe();
  return {.format = opened.format,
          .subformat = parse_subformat(description.text("type")).value_or(Subformat::fixed),
          .disk_bytes = layer.geometry().size_bytes,
          .file_bytes = opened.file->size_bytes(),
          .block_bytes = layer.block_size_bytes(),
          .logical_sector_bytes = layer.geometry().logical_sector_bytes,
          .physical_sector_bytes = layer.geometry().physical_sector_bytes,
          .log_is_dirty = description.text("log-state") == "dirty",
          .has_file_holes = is_sparse,
          .parent_bytes = parent_bytes(image.disk()),
          .creator_host_os = description.text("creator-host-os"),
          .creator_application = description.text("creator-application"),
          .file_name = std::filesystem::path(image.path()).filename().string()};
}

// What concerns the whole file and not one of its structures.
void add_finding(CheckReport& report, Severity severity, std::string code, std::string value,
                 std::string message) {
  report.findings.add({.severity = severity,
                       .code = std::move(code),
                       .structure = "image",
                       .field = "",
                       .file_offset = 0,
                       .value = std::move(value),
                       .message = std::move(message)});
}

void check_chain(const Image& image, CheckReport& report) {
  for (const ChainLink& link : image.links())
    if (link.verdict != LinkVerdict::ok)
      add_finding(report, Severity::corruption,
                  fmt::format("parent-{}", verdict_name(link.verdict)), link.path, link.message);
  for (const std::string& warning : image.warnings())
    add_finding(report, Severity::warning, "parent-time-stamp", "", warning);
}

// What only an image that opens can tell: its chain, and whether the profile fits.
Async<void> check_opened(async::Loop& loop, const std::string& path, const OpenOptions& options,
                         std::optional<Profile> profile, const OpenedFile& opened,
                         CheckReport& report) {
  auto image = co_await Image::inspect(loop, path, options);
  if (!image) {
    // The format's own check names the cause, unless it knows less than the opener.
    if (report.findings.count(Severity::corruption) == 0)
      add_finding(report, Severity::corruption, "cannot-open", "", image.error().message);
    co_return Result<void>();
  }
  check_chain(**image, report);
  if (profile) {
    CO_TRY_LET(const bool is_sparse, has_holes(*opened.file));
    check_profile(*profile, facts_of(**image, opened, is_sparse), report.findings);
  }
  co_return Result<void>();
}

}  // namespace

Async<CheckReport> check(async::Loop& loop, const std::string& path, const OpenOptions& options,
                         std::optional<Profile> profile) {
  const FileOptions file_options{.format = options.format, .force_share = options.force_share};
  CO_TRY_LET(const OpenedFile opened, co_await open_file(loop, path, file_options));
  CheckReport report{.format = opened.format, .findings = {}, .usage = {}};
  switch (opened.format) {
    case Format::vhd:
      CO_TRY(co_await libvhd::check(*opened.file, report.findings, report.usage));
      break;
    case Format::vhdx:
      CO_TRY(co_await vhdx::check(*opened.file, report.findings, report.usage));
      break;
    case Format::raw:
    case Format::qcow2:
      co_return fail(Errc::unsupported, fmt::format("{}: {} images cannot be checked, only vhd and "
                                                    "vhdx",
                                                    path, format_name(opened.format)));
  }
  CO_TRY(co_await check_opened(loop, path, options, profile, opened, report));
  co_return std::move(report);
}

}  // namespace vhdkit::image
