#include "fuse/overlay.h"

#include <errno.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "image/create.h"
#include "image/merge.h"
#include "tools/options.h"

namespace vhdkit::fuse {

Async<std::unique_ptr<Overlay>> Overlay::open(async::Loop& loop, const std::string& image_path,
                                              const OverlayOptions& options,
                                              const image::OpenOptions& open_options) {
  const bool is_temporary = options.path.empty();
  std::string path = options.path;
  if (is_temporary)
    path = fmt::format("{}/vhd-mount-{}.overlay", tools::default_spool_folder(),
                       Guid::random().to_string());
  std::unique_ptr<Overlay> overlay(new Overlay(loop, path, options.end, open_options));
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) CO_TRY(co_await overlay->make(image_path));
  CO_TRY(co_await overlay->open(image_path));
  if (is_temporary && options.end == OverlayEnd::discard) {
    // Nobody else needs its name, and it goes away with this process.
    unlink(path.c_str());
    overlay->path_.clear();
  }
  co_return std::move(overlay);
}

Async<void> Overlay::make(const std::string& image_path) {
  image::CreateOptions options;
  {
    image::OpenOptions reading = open_options_;
    reading.writable = false;
    CO_TRY_LET(const auto parent, co_await image::Image::open(loop_, image_path, reading));
    options.format = parent->format();
    options.block_size_bytes = parent->disk().layer(0).block_size_bytes();
  }
  options.parent_path = image_path;
  co_return co_await image::create(loop_, path_, options, open_options_, false);
}

Async<void> Overlay::open(const std::string& image_path) {
  image::OpenOptions options = open_options_;
  options.format = std::nullopt;
  options.parent_path = image_path;
  options.writable = true;
  auto opened = co_await image::Image::open(loop_, path_, options);
  CO_TRY_LET(image_, with_context(std::move(opened), "the overlay"));
  co_return Result<void>();
}

Async<void> Overlay::finish() {
  image_.reset();
  if (path_.empty() || end_ == OverlayEnd::keep) co_return Result<void>();
  if (end_ == OverlayEnd::commit) {
    image::OpenOptions options;
    options.path_mappings = open_options_.path_mappings;
    const image::MergeOptions merge_options;
    auto merged = co_await image::merge(loop_, path_, merge_options, options, nullptr);
    if (merged) co_return Result<void>();
    co_return fail(merged.error().code,
                   fmt::format("{} was not committed; vhd merge does it later: {}", path_,
                               merged.error().message));
  }
  if (unlink(path_.c_str()) != 0) co_return fail_errno(errno, path_ + ": removing");
  co_return Result<void>();
}

}  // namespace vhdkit::fuse
