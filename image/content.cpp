#include "image/content.h"

#include <algorithm>

#include "support/checked.h"

namespace vhdkit::image {

using disk::Extent;
using disk::ExtentKind;

Async<void> ContentCursor::refill() {
  extents_.clear();
  next_index_ = 0;
  const uint64_t left = disk_.geometry().size_bytes - position_;
  co_return co_await disk_.extents(position_, left, extents_);
}

// Cuts a data extent at the first change between hole and data, and makes it zero where it begins
// with a hole.
Result<void> ContentCursor::refine(Extent& extent) {
  if (extent.disk_offset < known_data_end_) {
    extent.length = std::min(extent.length, known_data_end_ - extent.disk_offset);
    return {};
  }
  File& file = disk_.layer(extent.depth).file();
  const uint64_t end = extent.file_offset + extent.length;
  TRY_LET(const auto data, file.next_data(extent.file_offset, end));
  const uint64_t data_start = data ? data->file_offset : end;
  if (data_start > extent.file_offset) {
    extent.kind = ExtentKind::zero;
    extent.length = data_start - extent.file_offset;
    return {};
  }
  extent.length = data->length;
  known_data_end_ = extent.disk_offset + data->length;
  return {};
}

Async<Part> ContentCursor::next(uint64_t max_bytes) {
  if (position_ == disk_.geometry().size_bytes) co_return Part{.extent = {}, .at_end = true};
  if (next_index_ == extents_.size()) CO_TRY(co_await refill());

  Extent extent = extents_[next_index_];
  const uint64_t passed = position_ - extent.disk_offset;
  extent.disk_offset = position_;
  extent.length -= passed;
  if (extent.kind == ExtentKind::data) {
    extent.file_offset += passed;
    CO_TRY(refine(extent));
  }
  if (extent.kind != ExtentKind::zero)
    extent.length = std::min(extent.length, max_bytes - position_ % max_bytes);
  position_ += extent.length;
  const Extent& whole = extents_[next_index_];
  if (position_ == whole.disk_offset + whole.length) ++next_index_;
  co_return Part{.extent = extent};
}

ReadAhead::ReadAhead(disk::LayeredDisk& disk, Options options)
    : disk_(disk), options_(options), cursor_(disk), buffers_(2 * size_t{options.request_count}) {
  for (Buffer& buffer : buffers_)
    buffer.memory = std::make_unique_for_overwrite<std::byte[]>(options.chunk_bytes);
}

Async<void> ReadAhead::fetch(Extent extent, std::span<std::byte> bytes) {
  disk::Layer& layer = disk_.layer(extent.depth);
  if (extent.kind == ExtentKind::encoded)
    co_return co_await layer.read_encoded(extent, extent.disk_offset, bytes);
  co_return co_await layer.file().read(extent.file_offset, bytes);
}

Async<void> ReadAhead::top_up() {
  // Zero chunks cost no buffer, so they need a bound of their own.
  const size_t most_pending = 4 * buffers_.size();
  while (!at_end_ && reads_pending_ < options_.request_count && pending_.size() < most_pending) {
    CO_TRY_LET(const Part part, co_await cursor_.next(options_.chunk_bytes));
    const Extent& extent = part.extent;
    at_end_ = part.at_end;
    if (at_end_) break;
    Chunk chunk{.disk_offset = extent.disk_offset, .length = extent.length};
    if (extent.kind != ExtentKind::zero) {
      Buffer& buffer = buffers_[next_buffer_];
      next_buffer_ = (next_buffer_ + 1) % buffers_.size();
      CO_TRY(co_await buffer.io.finish());
      chunk.bytes = {buffer.memory.get(), extent.length};
      chunk.users = &buffer.io;
      buffer.io.start(fetch(extent, chunk.bytes));
      ++reads_pending_;
    }
    pending_.push_back(chunk);
  }
  co_return Result<void>();
}

Async<Chunk> ReadAhead::next() {
  CO_TRY(co_await top_up());
  if (pending_.empty()) co_return Chunk();
  const Chunk chunk = pending_.front();
  pending_.pop_front();
  if (chunk.users != nullptr) {
    --reads_pending_;
    CO_TRY(co_await chunk.users->finish());
  }
  co_return chunk;
}

Async<void> ReadAhead::close() {
  Result<void> first;
  for (Buffer& buffer : buffers_) {
    const auto result = co_await buffer.io.finish();
    if (first) first = result;
  }
  co_return first;
}

}  // namespace vhdkit::image
