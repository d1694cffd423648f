#include "image/open_file.h"

#include "disk/raw_layer.h"
#include "image/guessed_raw_file.h"
#include "image/gzip_file.h"
#include "image/probe.h"
#include "image/qcow2_layer.h"
#include "libvhd/vhd_layer.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::image {
namespace {

// Replaces the file by what it unpacks to, and finds that one's format.
Async<void> unpack(OpenedFile& opened, std::optional<Format> format) {
  CO_TRY_LET(opened.file, co_await open_gzip_file(std::move(opened.file)));
  CO_TRY_LET(const Probed inside, co_await probe(*opened.file));
  if (inside.gzip) co_return fail(Errc::unsupported, opened.file->name() + ": gzip within gzip");
  opened.format = format.value_or(inside.format);
  co_return Result<void>();
}

}  // namespace

Async<OpenedFile> open_file(async::Loop& loop, const std::string& path, FileOptions options) {
  using async::SystemFile;
  const auto access =
      options.writable ? SystemFile::Access::read_write : SystemFile::Access::read_only;
  const SystemFile::Options file_options{
      .locking = options.force_share ? SystemFile::Locking::none : SystemFile::Locking::with_others,
      .caching = options.direct ? SystemFile::Caching::direct : SystemFile::Caching::cached};
  const std::optional<Format> format = options.format;
  CO_TRY_LET(auto file, co_await SystemFile::open_async(loop, path, access, file_options));
  OpenedFile opened{.file = nullptr,
                    .format = Format::raw,
                    .identity = file->identity(),
                    .allocated_bytes = file->allocated_bytes()};
  opened.file = std::move(file);
  // Whoever says raw gets the bytes as they lie there, whatever they look like.
  if (format == Format::raw) co_return std::move(opened);
  auto probed = co_await probe(*opened.file);
  if (!probed && !format) co_return std::unexpected(std::move(probed).error());
  if (probed && probed->gzip) {
    if (options.refuse_gzip)
      co_return fail(Errc::unsupported, path + ": is a gzip file, which is not unpacked here");
    if (options.writable)
      co_return fail(Errc::unsupported, path + ": what is in a gzip file cannot be written");
    CO_TRY(co_await unpack(opened, format));
    co_return std::move(opened);
  }
  opened.format = format ? *format : probed->format;
  if (opened.format == Format::raw && options.writable)
    opened.file = std::make_unique<GuessedRawFile>(std::move(opened.file));
  co_return std::move(opened);
}

Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file, Format format,
                                               LayerOptions options) {
  switch (format) {
    case Format::raw:
      co_return std::unique_ptr<disk::Layer>(
          std::make_unique<disk::RawLayer>(std::move(file), options.writable));
    case Format::vhd: {
      const libvhd::OpenOptions vhd_options{.writable = options.writable};
      co_return co_await libvhd::open_layer(std::move(file), vhd_options);
    }
    case Format::vhdx: {
      const vhdx::OpenOptions vhdx_options{.ignore_log = options.ignore_log,
                                           .writable = options.writable,
                                           .keep_identity = options.keep_identity};
      co_return co_await vhdx::open_layer(std::move(file), vhdx_options);
    }
    case Format::qcow2:
      if (options.writable)
        co_return fail(Errc::unsupported, file->name() + ": qcow2 images are only read");
      co_return co_await open_qcow2_layer(std::move(file));
  }
  __builtin_unreachable();
}

}  // namespace vhdkit::image
