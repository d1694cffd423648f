#include "image/merge_content.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "async/task_group.h"
#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image {
namespace {

constexpr uint64_t piece_bytes = 1 * MiB;
constexpr size_t pieces_at_once = 8;

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
    // The child may be larger.
    const uint64_t end_of_layer = std::max(layer.geometry().size_bytes, begin);
    const uint64_t length = std::min(block_bytes, end_of_layer - begin);
    if (length > 0) CO_TRY(co_await layer.resolve(begin, length, found));
    const bool has_data = std::ranges::any_of(
        found, [](const disk::Extent& one) { return one.kind == disk::ExtentKind::data; });
    if (!has_data) ++count;
  }
  next_block = std::max(next_block, end);
  co_return count;
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

}  // namespace

Async<MergeAmount> measure_merge(disk::LayeredDisk& chain, size_t target_depth) {
  Walk walk(chain, target_depth);
  disk::Layer& layer = chain.layer(uint32_t(target_depth));
  MergeAmount amount;
  uint64_t next_block = 0;
  while (true) {
    CO_TRY_LET(const std::optional<disk::Extent> extent, co_await walk.next());
    if (!extent) co_return amount;
    if (extent->kind == disk::ExtentKind::zero) {
      amount.zero_bytes += extent->length;
      continue;
    }
    amount.data_bytes += extent->length;
    CO_TRY_LET(const uint64_t count, co_await count_new_blocks(layer, *extent, next_block));
    amount.new_space_bytes += count * layer.block_size_bytes();
  }
}

Async<void> merge_content(disk::LayeredDisk& chain, size_t target_depth, disk::LayeredDisk& target,
                          const MergeAmount& amount, Progress* progress) {
  Copy copy(chain, target_depth, target, amount.data_bytes + amount.zero_bytes, progress);
  co_return co_await copy.run();
}

}  // namespace vhdkit::image
