#include "image/content.h"

#include <algorithm>
#include <cassert>

namespace vhdkit::image {

using disk::Extent;
using disk::ExtentKind;

namespace {

void drop_front(Extent& extent, uint64_t length) {
  extent.disk_offset += length;
  extent.length -= length;
  if (extent.kind == ExtentKind::data) extent.file_offset += length;
}

}  // namespace

Extent take_front(Extent& extent, uint64_t max_bytes) {
  Extent front = extent;
  if (front.kind != ExtentKind::zero)
    front.length = std::min(front.length, max_bytes - front.disk_offset % max_bytes);
  drop_front(extent, front.length);
  return front;
}

Async<Part> ContentCursor::next(uint64_t max_bytes) {
  if (rest_.length == 0) {
    if (rest_.disk_offset == disk_.geometry().size_bytes)
      co_return Part{.extent = {}, .at_end = true};
    CO_TRY(co_await begin_extent());
  }
  Extent uniform = rest_;
  if (uniform.kind == ExtentKind::data) CO_TRY(cut_at_hole(uniform));
  const Extent part = take_front(uniform, max_bytes);
  drop_front(rest_, part.length);
  co_return Part{.extent = part};
}

Async<void> ContentCursor::begin_extent() {
  if (next_index_ == extents_.size()) {
    extents_.clear();
    next_index_ = 0;
    const uint64_t position = rest_.disk_offset;
    CO_TRY(co_await disk_.extents(position, disk_.geometry().size_bytes - position, extents_));
  }
  rest_ = extents_[next_index_++];
  co_return Result<void>();
}

// Cuts a data extent at the first change between hole and data, and makes it zero where it begins
// with a hole.
Result<void> ContentCursor::cut_at_hole(Extent& extent) {
  File& file = disk_.layer(extent.depth).file();
  KnownRange& known = known_[extent.depth];
  if (extent.file_offset < known.hole_start || extent.file_offset >= known.data_end) {
    // Up to the file's end, not the extent's: the kernel looks that far anyway.
    TRY_LET(const auto data, file.next_data(extent.file_offset, file.size_bytes()));
    known.hole_start = extent.file_offset;
    known.data_start =
        data ? data->file_offset : std::max(file.size_bytes(), extent.file_offset + extent.length);
    known.data_end = data ? data->file_offset + data->length : known.data_start;
  }
  const bool in_hole = extent.file_offset < known.data_start;
  const uint64_t end = in_hole ? known.data_start : known.data_end;
  extent.length = std::min(extent.length, end - extent.file_offset);
  if (in_hole) extent.kind = ExtentKind::zero;
  return {};
}

ReadAhead::ReadAhead(disk::LayeredDisk& disk, PartSource& parts, Options options)
    : disk_(disk), parts_(parts), options_(options), buffers_(2 * size_t{options.request_count}) {
  assert(options.request_count > 0);
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
    CO_TRY_LET(const Part part, co_await parts_.next(options_.chunk_bytes));
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
