#include "fuse/overlay.h"

#include <errno.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "fuse/session.h"
#include "image/create.h"
#include "image/merge.h"
#include "tools/options.h"

namespace vhdkit::fuse {
namespace {

std::string temporary_path() {
  return fmt::format("{}/vhd-mount-{}.overlay", tools::absolute_path(tools::default_spool_folder()),
                     Guid::random().to_string());
}

}  // namespace

Overlay::Overlay(async::Loop& loop, std::string image_path, const OverlayOptions& options,
                 const image::OpenOptions& open_options)
    : loop_(loop),
      image_path_(std::move(image_path)),
      path_(options.path.empty() ? temporary_path() : options.path),
      is_temporary_(options.path.empty()),
      end_(options.end),
      open_options_(open_options) {}

Overlay::~Overlay() {
  // Before its lock is given up.
  if (is_new_ && !is_used_ && !path_.empty()) unlink(path_.c_str());
}

Async<std::unique_ptr<Overlay>> Overlay::open(async::Loop& loop, const std::string& image_path,
                                              const OverlayOptions& options,
                                              const image::OpenOptions& open_options) {
  std::unique_ptr<Overlay> overlay(new Overlay(loop, image_path, options, open_options));
  std::error_code ignored;
  if (!std::filesystem::exists(overlay->path_, ignored)) CO_TRY(co_await overlay->make());
  CO_TRY(co_await overlay->open());
  if (overlay->is_temporary_ && options.end == OverlayEnd::discard) {
    // Nobody else needs its name, and it goes away with this process.
    unlink(overlay->path_.c_str());
    overlay->path_.clear();
  }
  co_return std::move(overlay);
}

Async<void> Overlay::make() {
  image::CreateOptions options;
  {
    image::OpenOptions reading = open_options_;
    reading.writable = false;
    CO_TRY_LET(const auto parent, co_await image::Image::open(loop_, image_path_, reading));
    options.format = parent->format();
    options.block_size_bytes = parent->disk().layer(0).block_size_bytes();
  }
  options.parent_path = image_path_;
  options.is_private = is_temporary_;
  hold_ending_signals();
  CO_TRY(co_await image::create(loop_, path_, options, open_options_, false));
  is_new_ = true;
  co_return Result<void>();
}

// What the user says of the image is said of the overlay's parent here.
image::OpenOptions Overlay::chain_options() const {
  image::OpenOptions options = open_options_;
  options.format = std::nullopt;
  options.parent_path = image_path_;
  options.grandparent_path = open_options_.parent_path;
  return options;
}

Async<void> Overlay::open() {
  image::OpenOptions options = chain_options();
  options.writable = true;
  auto opened = co_await image::Image::open(loop_, path_, options);
  // Somebody else has found it meanwhile.
  if (!opened && opened.error().code == Errc::busy) is_new_ = false;
  CO_TRY_LET(image_, with_context(std::move(opened), "the overlay"));
  // What is removed at the end is the file, and not a link to it.
  std::error_code unknown;
  const auto real_path = std::filesystem::canonical(path_, unknown);
  if (!unknown) path_ = real_path;
  co_return Result<void>();
}

Async<void> Overlay::finish() {
  if (!is_used_) co_return Result<void>();
  image_.reset();
  if (path_.empty() || end_ == OverlayEnd::keep) co_return Result<void>();
  if (end_ == OverlayEnd::commit) {
    const image::OpenOptions options = chain_options();
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
