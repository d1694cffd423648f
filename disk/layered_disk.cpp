#include "disk/layered_disk.h"

#include <algorithm>
#include <cassert>

#include "support/checked.h"

namespace vhdkit::disk {
namespace {

Extent zero_extent(const Extent& place) {
  return {.disk_offset = place.disk_offset,
          .length = place.length,
          .kind = ExtentKind::zero,
          .depth = place.depth};
}

}  // namespace

LayeredDisk::LayeredDisk(std::vector<std::unique_ptr<Layer>> layers) : layers_(std::move(layers)) {
  assert(!layers_.empty());
  geometry_ = layers_.front()->geometry();
  geometry_.read_only = layers_.front()->writer() == nullptr;
}

Async<void> LayeredDisk::close() {
  if (LayerWriter* writer = layers_.front()->writer()) co_return co_await writer->close();
  co_return Result<void>();
}

// While this lives, no place of the first layer that is found from now on gets a new owner.
std::optional<InFlight::Guard> LayeredDisk::enter() {
  LayerWriter* const writer = layers_.front()->writer();
  if (writer == nullptr) return std::nullopt;
  return writer->in_flight().enter();
}

Async<void> LayeredDisk::audit() {
  for (const std::unique_ptr<Layer>& layer : layers_) CO_TRY(co_await layer->audit());
  co_return Result<void>();
}

Async<void> LayeredDisk::do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) {
  // Extents still to hand out, the first in guest order on top; one of kind parent is a question to
  // the layer at its depth. A stack instead of recursion: chains may be a thousand layers deep.
  std::vector<Extent> pending{
      Extent{.disk_offset = disk_offset, .length = length, .kind = ExtentKind::parent, .depth = 0}};
  ExtentList answers;
  while (!pending.empty()) {
    Extent next = pending.back();
    pending.pop_back();
    if (next.kind != ExtentKind::parent) {
      next.is_undefined = false;
      extents.append(next);
      continue;
    }
    const uint64_t layer_size =
        next.depth < layers_.size() ? layers_[next.depth]->geometry().size_bytes : 0;
    if (next.disk_offset >= layer_size) {
      extents.append(zero_extent(next));
      continue;
    }
    const uint64_t asked = std::min(next.length, layer_size - next.disk_offset);
    answers.clear();
    CO_TRY(co_await layers_[next.depth]->resolve(next.disk_offset, asked, answers));
    assert(!answers.empty());
    const Extent& last = answers[answers.size() - 1];
    const uint64_t answered_end = last.disk_offset + last.length;
    const uint64_t end = next.disk_offset + next.length;
    if (answered_end < end) {
      pending.push_back(next);
      pending.back().disk_offset = answered_end;
      pending.back().length = end - answered_end;
    }
    for (size_t i = answers.size(); i-- > 0;) {
      pending.push_back(answers[i]);
      pending.back().depth = next.depth + (answers[i].kind == ExtentKind::parent ? 1 : 0);
    }
  }
  co_return Result<void>();
}

// The first extent of the range, if all layers that it needs know it at once.
std::optional<Extent> LayeredDisk::peek(uint64_t disk_offset, uint64_t length) {
  Extent answer{.disk_offset = disk_offset, .length = length, .kind = ExtentKind::zero};
  for (const std::unique_ptr<Layer>& layer : layers_) {
    const uint64_t layer_size = layer->geometry().size_bytes;
    if (disk_offset >= layer_size) return answer;
    const auto extent = layer->peek(disk_offset, std::min(answer.length, layer_size - disk_offset));
    if (!extent) return std::nullopt;
    if (extent->kind != ExtentKind::parent) {
      const uint32_t depth = answer.depth;
      answer = *extent;
      answer.depth = depth;
      return answer;
    }
    answer.length = extent->length;
    ++answer.depth;
  }
  return answer;
}

Async<void> LayeredDisk::do_read(uint64_t disk_offset, Buffers buffers) {
  const auto guard = enter();
  const uint64_t length = total_bytes(buffers);
  if (const auto extent = peek(disk_offset, length); extent && extent->length == length)
    co_return co_await read_extent(*extent, disk_offset, buffers);
  async::TaskGroup reads;
  auto started = co_await start_reads(reads, disk_offset, buffers);
  auto ended = co_await reads.finish();
  co_return started ? std::move(ended) : std::move(started);
}

Async<void> LayeredDisk::start_reads(async::TaskGroup& reads, uint64_t disk_offset,
                                     Buffers buffers) {
  const uint64_t end = disk_offset + total_bytes(buffers);
  BufferCutter cutter(buffers);
  ExtentList extents;
  while (disk_offset < end && !reads.failed()) {
    extents.clear();
    uint64_t known_end = disk_offset;
    while (known_end < end) {
      const auto known = peek(known_end, end - known_end);
      if (!known) break;
      extents.append(*known);
      known_end += known->length;
    }
    if (extents.empty()) {
      CO_TRY(co_await do_extents(disk_offset, end - disk_offset, extents));
    }
    for (const Extent& extent : extents) {
      reads.start(read_part(extent, cutter.next(extent.length)));
      disk_offset += extent.length;
    }
  }
  co_return Result<void>();
}

Async<void> LayeredDisk::read_part(Extent extent, std::vector<iovec> buffers) {
  const Buffers part(buffers);
  co_return co_await read_extent(extent, extent.disk_offset, part);
}

// disk_offset: in the extent.
Async<void> LayeredDisk::read_extent(const Extent& extent, uint64_t disk_offset, Buffers buffers) {
  // Only data has a layer: zeroes may come from below the last one.
  switch (extent.kind) {
    case ExtentKind::data: {
      const uint64_t file_offset = extent.file_offset + (disk_offset - extent.disk_offset);
      return layers_[extent.depth]->file().readv(file_offset, buffers);
    }
    case ExtentKind::encoded:
      return read_encoded(extent, disk_offset, buffers);
    case ExtentKind::zero:
    case ExtentKind::parent:
      fill_zero(buffers);
      return async::ready(Result<void>());
  }
  __builtin_unreachable();
}

Async<void> LayeredDisk::read_encoded(const Extent& extent, uint64_t disk_offset, Buffers buffers) {
  for (const iovec& vector : buffers) {
    const std::span<std::byte> part(static_cast<std::byte*>(vector.iov_base), vector.iov_len);
    CO_TRY(co_await layers_[extent.depth]->read_encoded(extent, disk_offset, part));
    disk_offset += part.size();
  }
  co_return Result<void>();
}

// A durable write is one with a flush behind it, and not one that the file makes durable by itself:
// that could be told of bytes of others that are lost, and then no flush is told any more.
Async<void> LayeredDisk::do_write(uint64_t disk_offset, Buffers buffers, Durability durability) {
  LayerWriter& writer = *layers_.front()->writer();
  const auto guard = enter();
  const uint64_t length = total_bytes(buffers);
  const bool is_durable = durability == Durability::durable;
  const auto place = writer.in_place(disk_offset, length);
  if (place && place->length == length) {
    File& file = layers_.front()->file();
    CO_TRY(co_await file.writev(place->file_offset, buffers, Durability::cached));
    if (is_durable) co_return co_await writer.flush();
    co_return Result<void>();
  }
  async::TaskGroup writes;
  start_writes(writes, disk_offset, buffers);
  CO_TRY(co_await writes.finish());
  if (is_durable) co_return co_await writer.flush();
  co_return Result<void>();
}

void LayeredDisk::start_writes(async::TaskGroup& writes, uint64_t disk_offset, Buffers buffers) {
  LayerWriter& writer = *layers_.front()->writer();
  const uint64_t end = disk_offset + total_bytes(buffers);
  const uint64_t block_bytes = layers_.front()->block_size_bytes();
  BufferCutter cutter(buffers);
  while (disk_offset < end && !writes.failed()) {
    uint64_t length = end - disk_offset;
    if (const auto place = writer.in_place(disk_offset, length)) {
      length = place->length;
      while (disk_offset + length < end) {
        const auto next = writer.in_place(disk_offset + length, end - disk_offset - length);
        if (!next || next->file_offset != place->file_offset + length) break;
        length += next->length;
      }
      writes.start(overwrite(place->file_offset, cutter.next(length)));
    } else {
      // A block each, so that new ones are prepared side by side.
      if (block_bytes > 0) length = std::min(length, block_bytes - disk_offset % block_bytes);
      writes.start(write_part(disk_offset, cutter.next(length)));
    }
    disk_offset += length;
  }
}

Async<void> LayeredDisk::overwrite(uint64_t file_offset, std::vector<iovec> buffers) {
  const Buffers part(buffers);
  co_return co_await layers_.front()->file().writev(file_offset, part, Durability::cached);
}

Async<void> LayeredDisk::write_part(uint64_t disk_offset, std::vector<iovec> buffers) {
  const uint64_t end = disk_offset + total_bytes(Buffers(buffers));
  BufferCutter cutter{Buffers(buffers)};
  const uint64_t block_bytes = layers_.front()->block_size_bytes();
  while (disk_offset < end) {
    uint64_t length = end - disk_offset;
    if (block_bytes > 0) length = std::min(length, block_bytes - disk_offset % block_bytes);
    const std::vector<iovec> vectors = cutter.next(length);
    bool done = false;
    while (!done) {
      CO_TRY_LET(done, co_await write_once(disk_offset, vectors));
    }
    disk_offset += length;
  }
  co_return Result<void>();
}

// False: it must be done again.
Async<bool> LayeredDisk::write_once(uint64_t disk_offset, Buffers buffers) {
  LayerWriter& writer = *layers_.front()->writer();
  CO_TRY_LET(WritePlace place, co_await writer.prepare(disk_offset, total_bytes(buffers)));
  auto written =
      co_await layers_.front()->file().writev(place.file_offset, buffers, Durability::cached);
  auto finished = co_await writer.finish(std::move(place), written.has_value());
  CO_TRY(std::move(written));
  co_return finished;
}

Async<void> LayeredDisk::do_flush() { co_return co_await layers_.front()->writer()->flush(); }

// Blocks that are zeroes already are passed over, many at once where tables have holes.
Async<void> LayeredDisk::do_zero(uint64_t disk_offset, uint64_t length) {
  LayerWriter& writer = *layers_.front()->writer();
  const auto guard = enter();
  const uint64_t end = disk_offset + length;
  const uint64_t unit = std::max<uint64_t>(layers_.front()->block_size_bytes(), 1);
  ExtentList extents;
  for (size_t next = 0; disk_offset < end;) {
    if (next == extents.size()) {
      extents.clear();
      CO_TRY(co_await layers_.front()->resolve(disk_offset, end - disk_offset, extents));
      next = 0;
    }
    const Extent extent = extents[next];
    const bool is_zero = extent.kind == ExtentKind::zero && !extent.is_undefined;
    const uint64_t extent_end = extent.disk_offset + extent.length;
    const uint64_t block_end = std::min(end, align_down(disk_offset, unit) + unit);
    if (extent_end <= disk_offset) {
      ++next;
    } else if (is_zero && extent_end >= block_end) {
      disk_offset = extent_end == end ? end : std::max(block_end, align_down(extent_end, unit));
    } else {
      const uint64_t part_end = unit == 1 ? end : block_end;
      CO_TRY(co_await writer.zero(disk_offset, part_end - disk_offset));
      disk_offset = part_end;
    }
  }
  co_return Result<void>();
}

}  // namespace vhdkit::disk
