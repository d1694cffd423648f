#include "image/resize.h"

#include <fmt/format.h>

#include <filesystem>

#include "image/known_children.h"
#include "image/new_file.h"
#include "image/open_file.h"
#include "image/parent_edit.h"
#include "image/probe.h"
#include "image/transfer.h"
#include "libvhd/resize.h"
#include "support/checked.h"
#include "vhdx/resize.h"

namespace vhdkit::image {
namespace {

Result<uint64_t> new_size(const std::string& path, uint64_t old_bytes, const SizeChange& change) {
  if (change.kind == SizeChange::Kind::to) return change.bytes;
  if (change.kind == SizeChange::Kind::by_more) {
    if (const auto sum = checked_add(old_bytes, change.bytes)) return *sum;
    return fail(Errc::invalid_argument, fmt::format("{}: {} bytes more than {} are too many", path,
                                                    change.bytes, old_bytes));
  }
  if (change.bytes < old_bytes) return old_bytes - change.bytes;
  return fail(Errc::invalid_argument, fmt::format("{}: {} bytes less than {} leave nothing", path,
                                                  change.bytes, old_bytes));
}

Result<void> check_size(Image& image, const ResizeOptions& options, const ResizeReport& report) {
  const uint64_t unit = image.disk().geometry().logical_sector_bytes;
  if (report.new_bytes == 0 || !is_aligned(report.new_bytes, unit))
    return fail(Errc::invalid_argument,
                fmt::format("{}: a size of {} bytes: it must be a multiple of the sector's {}",
                            image.path(), report.new_bytes, unit));
  if (report.new_bytes >= report.old_bytes || options.shrink) return {};
  return fail(Errc::invalid_argument,
              fmt::format("{}: {} bytes are less than the disk's {}: what lies behind the new end "
                          "would be lost; --shrink allows it",
                          image.path(), report.new_bytes, report.old_bytes));
}

// What has no other size, whichever is wanted.
Result<void> check_kind(Image& image) {
  std::error_code ignored;
  if (image.format() == Format::raw && std::filesystem::is_block_file(image.path(), ignored))
    return fail(Errc::unsupported, image.path() + ": is a device, which has the size that it has");
  if (image.format() == Format::vhd && image.disk().layer(0).parent() != nullptr)
    return fail(Errc::unsupported,
                image.path() +
                    ": a differencing VHD has its parent's size, Windows opens no other: merge it "
                    "into its parent, or convert it, and resize that disk");
  return {};
}

Async<void> check_children(async::Loop& loop, Image& image) {
  CO_TRY_LET(const std::vector<std::string> children,
             co_await known_children(loop, image.path(), image.disk().layer(0)));
  if (children.empty()) co_return Result<void>();
  co_return fail(Errc::invalid_argument,
                 fmt::format("{}: is the parent of {}: resize that one, which is the disk that a "
                             "machine sees",
                             image.path(), children.front()));
}

// What nobody said to be raw has to pass for it with its new end, too.
Async<void> check_still_raw(File& file, uint64_t size_bytes) {
  if (size_bytes >= file.size_bytes()) co_return Result<void>();
  std::vector<std::byte> head(size_t(std::min<uint64_t>(probed_bytes, size_bytes)));
  std::vector<std::byte> tail(head.size());
  CO_TRY(co_await file.read(0, head));
  CO_TRY(co_await file.read(size_bytes - tail.size(), tail));
  CO_TRY_LET(const Probed probed, probe_ends(head, tail, size_bytes, file.name()));
  if (probed.format == Format::raw) co_return Result<void>();
  co_return fail(Errc::invalid_argument,
                 fmt::format("{}: at the new end lies what looks like the footer of a {}; say with "
                             "-f raw that it is content",
                             file.name(), format_name(probed.format)));
}

Async<void> resize_raw(async::Loop& loop, const std::string& path, const NewSize& size) {
  FileOptions options{.format = std::nullopt, .writable = true};
  if (size.is_said_raw) options.format = Format::raw;
  CO_TRY_LET(const OpenedFile opened, co_await open_file(loop, path, options));
  if (!size.is_said_raw) {
    CO_TRY(co_await check_still_raw(*opened.file, size.size_bytes));
  }
  CO_TRY(opened.file->resize(size.size_bytes));
  co_return co_await opened.file->flush();
}

// The old file stays locked, by its successor, until that one has its name.
Async<void> remake_fixed_vhd(async::Loop& loop, const std::string& path, uint64_t size_bytes,
                             Progress* progress) {
  using async::SystemFile;
  CO_TRY_LET(const auto target, NewFile::begin_successor(loop, path));
  const SystemFile::Options unlocked{.locking = SystemFile::Locking::none};
  CO_TRY_LET(auto file, SystemFile::open(loop, path, SystemFile::Access::read_only, unlocked));
  CO_TRY_LET(libvhd::FixedCopy copy,
             co_await libvhd::copy_fixed(std::move(file), target->file(), size_bytes));
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(copy.content));
  disk::LayeredDisk source(std::move(layers));
  const ConvertOptions options;
  ConvertReport report;
  CO_TRY(co_await transfer(source, *copy.writer, options, progress, report));
  CO_TRY(co_await copy.writer->finish());
  co_return co_await target->commit();
}

// Other names of a file that is made anew would keep the old disk.
Result<void> check_names(const std::string& path) {
  std::error_code ignored;
  const uintmax_t count = std::filesystem::hard_link_count(path, ignored);
  if (ignored || count == 1) return {};
  return fail(Errc::unsupported,
              fmt::format("{}: the file has {} names (hard links), and a fixed VHD of another size "
                          "is made anew: it would have only this one",
                          path, count));
}

}  // namespace

bool is_fixed_vhd(Format format, const disk::Layer& layer) {
  return format == Format::vhd && layer.block_size_bytes() == 0;
}

NewSize size_for(disk::LayeredDisk& chain, size_t depth, uint64_t size_bytes) {
  NewSize size{.size_bytes = size_bytes};
  if (depth + 1 < chain.layer_count())
    size.parent_bytes = chain.layer(uint32_t(depth + 1)).geometry().size_bytes;
  return size;
}

Async<void> check_resize(const std::string& path, Format format, disk::Layer& layer,
                         const NewSize& size) {
  if (format == Format::qcow2)
    co_return fail(Errc::unsupported, path + ": qcow2 images are only read");
  if (format != Format::vhd) co_return Result<void>();
  const uint64_t old_bytes = layer.geometry().size_bytes;
  const bool shows_parent = layer.parent() != nullptr && size.parent_bytes > old_bytes;
  if (shows_parent && size.size_bytes > old_bytes)
    co_return fail(
        Errc::unsupported,
        fmt::format("{}: its parent's disk of {} bytes is larger than its own, and a VHD cannot "
                    "hide what would come to light",
                    path, size.parent_bytes));
  if (size.size_bytes != old_bytes && is_fixed_vhd(format, layer)) CO_TRY(check_names(path));
  co_return co_await libvhd::check_resize(layer.file(), size.size_bytes);
}

Async<void> resize_file(async::Loop& loop, const std::string& path, Format format,
                        bool is_fixed_vhd, const NewSize& size, Progress* progress) {
  if (format == Format::raw) co_return co_await resize_raw(loop, path, size);
  if (is_fixed_vhd) co_return co_await remake_fixed_vhd(loop, path, size.size_bytes, progress);
  CO_TRY_LET(auto file, co_await open_for_edit(loop, path, format));
  if (format == Format::vhd) co_return co_await libvhd::resize(*file, size.size_bytes);
  const vhdx::ResizeOptions options{.size_bytes = size.size_bytes,
                                    .parent_bytes = size.parent_bytes,
                                    .keep_identity = size.keep_identity};
  co_return co_await vhdx::resize(std::move(file), options);
}

Async<ResizeReport> plan_resize(async::Loop& loop, Image& image, const ResizeOptions& options) {
  ResizeReport report{.old_bytes = image.disk().geometry().size_bytes};
  CO_TRY_LET(report.new_bytes, new_size(image.path(), report.old_bytes, options.size));
  CO_TRY(check_size(image, options, report));
  CO_TRY(check_kind(image));
  CO_TRY(co_await check_children(loop, image));
  co_return report;
}

Async<ResizeReport> resize(async::Loop& loop, const std::string& path, const ResizeOptions& options,
                           const OpenOptions& open_options, Progress* progress) {
  ResizeReport report;
  NewSize size;
  Format format = Format::raw;
  bool is_fixed = false;
  {
    CO_TRY_LET(const auto image, co_await Image::open(loop, path, open_options));
    CO_TRY_LET(report, co_await plan_resize(loop, *image, options));
    CO_TRY(co_await image->disk().layer(0).audit());
    size = size_for(image->disk(), 0, report.new_bytes);
    size.is_said_raw = open_options.format == Format::raw;
    format = image->format();
    CO_TRY(co_await check_resize(path, format, image->disk().layer(0), size));
    is_fixed = is_fixed_vhd(format, image->disk().layer(0));
  }
  if (report.new_bytes != report.old_bytes)
    CO_TRY(co_await resize_file(loop, path, format, is_fixed, size, progress));
  co_return report;
}

}  // namespace vhdkit::image
