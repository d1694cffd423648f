#include "image/merge.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "async/task_group.h"
#include "image/known_children.h"
#include "support/bytes.h"
#include "support/checked.h"
#include "vhdx/edit.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t piece_bytes = 1 * MiB;
constexpr size_t pieces_at_once = 8;

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return fs::equivalent(a, b, ignored);
}

// Which image of the chain gets the content.
Result<size_t> find_target(const Image& chain, const MergeOptions& options) {
  if (chain.links().size() < 2)
    return fail(Errc::invalid_argument, chain.path() + ": has no parent to merge into");
  if (!options.into) return 1;
  for (size_t depth = 1; depth < chain.links().size(); ++depth)
    if (is_same_file(chain.links()[depth].path, *options.into)) return depth;
  return fail(Errc::invalid_argument,
              fmt::format("{}: is not among the parents of {}", *options.into, chain.path()));
}

// Nobody but the chain itself may depend on what is changed or removed.
Async<void> check_children(async::Loop& loop, Image& chain, size_t target) {
  for (size_t depth = 0; depth <= target; ++depth) {
    const std::string& path = chain.links()[depth].path;
    CO_TRY_LET(const std::vector<std::string> children,
               co_await known_children(loop, path, chain.disk().layer(uint32_t(depth))));
    for (const std::string& child : children)
      if (depth == 0 || !is_same_file(child, chain.links()[depth - 1].path))
        co_return fail(Errc::invalid_argument,
                       fmt::format("{}: is the parent of {}, which would be lost; merge or move "
                                   "that one first",
                                   path, child));
  }
  co_return Result<void>();
}

Result<void> check_sizes(Image& chain, size_t target) {
  const uint64_t target_bytes = chain.disk().layer(uint32_t(target)).geometry().size_bytes;
  const uint64_t child_bytes = chain.disk().geometry().size_bytes;
  if (child_bytes == target_bytes) return {};
  return fail(Errc::unsupported,
              fmt::format("{}: its disk of {} bytes has another size than that of {}, {} bytes",
                          chain.path(), child_bytes, chain.links()[target].path, target_bytes));
}

// Walks over what the images above the target hold.
class Walk {
 public:
  Walk(disk::LayeredDisk& disk, size_t target) : disk_(disk), target_(target) {}

  // Nothing at the end. Zeroes from below the last image belong to none of them.
  Async<std::optional<disk::Extent>> next() {
    while (true) {
      if (index_ == extents_.size()) {
        if (disk_offset_ == disk_.geometry().size_bytes) co_return std::nullopt;
        extents_.clear();
        index_ = 0;
        const uint64_t rest = disk_.geometry().size_bytes - disk_offset_;
        CO_TRY(co_await disk_.extents(disk_offset_, std::min(rest, window_bytes), extents_));
        const disk::Extent& last = extents_[extents_.size() - 1];
        disk_offset_ = last.disk_offset + last.length;
      }
      const disk::Extent extent = extents_[index_++];
      if (extent.depth < target_) co_return extent;
    }
  }

 private:
  static constexpr uint64_t window_bytes = 1 * GiB;  // bounds the list of extents
  disk::LayeredDisk& disk_;
  size_t target_;
  disk::ExtentList extents_;
  size_t index_ = 0;
  uint64_t disk_offset_ = 0;
};

// How many of the target's blocks that the range touches, from next_block on, have no place yet.
Async<uint64_t> count_new_blocks(disk::Layer& layer, const disk::Extent& extent,
                                 uint64_t& next_block) {
  const uint64_t block_bytes = layer.block_size_bytes();
  uint64_t count = 0;
  if (block_bytes == 0) co_return count;
  const uint64_t end = ceil_div(extent.disk_offset + extent.length, block_bytes);
  disk::ExtentList found;
  for (uint64_t block = std::max(next_block, extent.disk_offset / block_bytes); block < end;
       ++block) {
    const uint64_t begin = block * block_bytes;
    found.clear();
    CO_TRY(co_await layer.resolve(begin, std::min(block_bytes, layer.geometry().size_bytes - begin),
                                  found));
    const bool has_data = std::ranges::any_of(
        found, [](const disk::Extent& one) { return one.kind == disk::ExtentKind::data; });
    if (!has_data) ++count;
  }
  next_block = std::max(next_block, end);
  co_return count;
}

Async<void> estimate(Image& chain, size_t target, MergeReport& report) {
  Walk walk(chain.disk(), target);
  disk::Layer& layer = chain.disk().layer(uint32_t(target));
  uint64_t next_block = 0;
  while (true) {
    CO_TRY_LET(const std::optional<disk::Extent> extent, co_await walk.next());
    if (!extent) co_return Result<void>();
    if (extent->kind == disk::ExtentKind::zero) {
      report.zero_bytes += extent->length;
      continue;
    }
    report.data_bytes += extent->length;
    CO_TRY_LET(const uint64_t count, co_await count_new_blocks(layer, *extent, next_block));
    report.new_space_bytes += count * layer.block_size_bytes();
  }
}

// Puts the content into the target, several pieces at a time.
class Copy {
 public:
  Copy(disk::LayeredDisk& source, size_t target_depth, disk::LayeredDisk& target,
       uint64_t total_bytes, Progress* progress)
      : source_(source),
        target_(target),
        walk_(source, target_depth),
        total_bytes_(total_bytes),
        progress_(progress),
        buffers_(pieces_at_once, std::vector<std::byte>(piece_bytes)) {}

  Async<void> run() {
    bool done = false;
    while (!done) {
      if (progress_ && progress_->cancelled()) co_return fail(Errc::interrupted, "interrupted");
      async::TaskGroup pieces;
      auto started = co_await start_pieces(pieces);
      auto ended = co_await pieces.finish();
      CO_TRY(std::move(ended));
      CO_TRY_LET(done, std::move(started));
      if (progress_) progress_->update(done_bytes_, total_bytes_);
    }
    co_return Result<void>();
  }

 private:
  // True: there are no more.
  Async<bool> start_pieces(async::TaskGroup& pieces) {
    for (std::vector<std::byte>& buffer : buffers_) {
      if (rest_.length == 0) {
        CO_TRY_LET(const std::optional<disk::Extent> extent, co_await walk_.next());
        if (!extent) co_return true;
        rest_ = *extent;
      }
      disk::Extent piece = rest_;
      if (piece.kind != disk::ExtentKind::zero) piece.length = std::min(piece.length, piece_bytes);
      rest_.disk_offset += piece.length;
      rest_.length -= piece.length;
      done_bytes_ += piece.length;
      pieces.start(copy_piece(
          piece, std::span(buffer).first(std::min(piece.length, uint64_t{piece_bytes}))));
    }
    co_return false;
  }

  Async<void> copy_piece(disk::Extent piece, std::span<std::byte> buffer) {
    if (piece.kind == disk::ExtentKind::zero)
      co_return co_await target_.zero(piece.disk_offset, piece.length);
    CO_TRY(co_await source_.read(piece.disk_offset, buffer));
    if (is_zero(buffer)) co_return co_await target_.zero(piece.disk_offset, piece.length);
    const std::span<const std::byte> bytes(buffer);
    co_return co_await target_.write(piece.disk_offset, bytes);
  }

  disk::LayeredDisk& source_;
  disk::LayeredDisk& target_;
  Walk walk_;
  disk::Extent rest_{.disk_offset = 0, .length = 0, .kind = disk::ExtentKind::zero};
  uint64_t done_bytes_ = 0;
  uint64_t total_bytes_;
  Progress* progress_;
  std::vector<std::vector<std::byte>> buffers_;
};

// Removed, and durably so, before the next one is: whoever is left must not hide newer content.
Result<void> remove_durably(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  if (unlink(path.c_str()) != 0) return fail_errno(errno, path + ": removing");
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return fail_errno(errno, folder);
  const int synced = fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (synced != 0 && error != EINVAL) return fail_errno(error, folder + ": flushing");
  return {};
}

// What must hold before anything is changed, and what there is to do.
Async<MergeReport> prepare(async::Loop& loop, Image& chain, size_t target) {
  CO_TRY(check_sizes(chain, target));
  CO_TRY(co_await check_children(loop, chain, target));
  CO_TRY(co_await chain.disk().audit());
  MergeReport report;
  report.into = chain.links()[target].path;
  for (size_t depth = 0; depth < target; ++depth)
    report.merged.push_back(chain.links()[depth].path);
  CO_TRY(co_await estimate(chain, target, report));
  co_return std::move(report);
}

}  // namespace

Async<MergeReport> merge(async::Loop& loop, const std::string& child_path,
                         const MergeOptions& options, const OpenOptions& open_options,
                         Progress* progress) {
  MergeReport report;
  size_t target_depth = 0;
  {
    CO_TRY_LET(const auto chain, co_await Image::open(loop, child_path, open_options));
    CO_TRY_LET(target_depth, find_target(*chain, options));
    CO_TRY_LET(report, co_await prepare(loop, *chain, target_depth));
  }
  if (options.dry_run) co_return std::move(report);

  std::vector<std::unique_ptr<async::SystemFile>> locks;
  for (const std::string& path : report.merged) {
    CO_TRY_LET(auto lock,
               async::SystemFile::open(loop, path, async::SystemFile::Access::read_write));
    locks.push_back(std::move(lock));
  }
  OpenOptions target_options{.path_mappings = open_options.path_mappings, .writable = true};
  target_options.keep_identity = true;
  CO_TRY_LET(const auto target, co_await Image::open(loop, report.into, target_options));
  {
    // Its files are ours now, so it is read without locks.
    OpenOptions source_options = open_options;
    source_options.force_share = true;
    CO_TRY_LET(const auto source, co_await Image::open(loop, child_path, source_options));
    Copy copy(source->disk(), target_depth, target->disk(), report.data_bytes + report.zero_bytes,
              progress);
    auto copied = co_await copy.run();
    auto closed = co_await target->disk().close();
    CO_TRY(std::move(copied));
    CO_TRY(std::move(closed));
  }
  if (options.keep_files) co_return std::move(report);
  for (const std::string& path : report.merged) CO_TRY(remove_durably(path));
  // Children that nobody knew of shall find out that their parent has changed.
  if (target->format() == Format::vhdx) {
    const Guid identity = Guid::random();
    CO_TRY(co_await vhdx::set_data_write_guid(target->disk().layer(0).file(), identity));
  }
  co_return std::move(report);
}

}  // namespace vhdkit::image
