#include "disk/layered_disk.h"

#include <algorithm>
#include <cassert>
#include <cstring>

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
  geometry_.read_only = true;
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
    const Extent next = pending.back();
    pending.pop_back();
    if (next.kind != ExtentKind::parent) {
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

Async<void> LayeredDisk::read_extent(const Extent& extent, uint64_t disk_offset,
                                     std::span<std::byte> buffer) {
  // Only data has a layer: zeroes may come from below the last one.
  switch (extent.kind) {
    case ExtentKind::data: {
      const uint64_t file_offset = extent.file_offset + (disk_offset - extent.disk_offset);
      co_return co_await layers_[extent.depth]->file().read(file_offset, buffer);
    }
    case ExtentKind::encoded:
      co_return co_await layers_[extent.depth]->read_encoded(extent, disk_offset, buffer);
    case ExtentKind::zero:
    case ExtentKind::parent:
      std::memset(buffer.data(), 0, buffer.size());
      co_return Result<void>();
  }
  __builtin_unreachable();
}

Async<void> LayeredDisk::do_read(uint64_t disk_offset, Buffers buffers) {
  const uint64_t end = disk_offset + total_bytes(buffers);
  ExtentList extents;
  size_t vector_index = 0;
  size_t vector_used = 0;
  while (disk_offset < end) {
    extents.clear();
    CO_TRY(co_await do_extents(disk_offset, end - disk_offset, extents));
    for (const Extent& extent : extents) {
      const uint64_t extent_end = std::min(end, extent.disk_offset + extent.length);
      while (disk_offset < extent_end) {
        const iovec& vector = buffers[vector_index];
        const size_t length =
            std::min<uint64_t>(extent_end - disk_offset, vector.iov_len - vector_used);
        const std::span<std::byte> part(static_cast<std::byte*>(vector.iov_base) + vector_used,
                                        length);
        if (length > 0) CO_TRY(co_await read_extent(extent, disk_offset, part));
        disk_offset += length;
        vector_used += length;
        if (vector_used == vector.iov_len) {
          ++vector_index;
          vector_used = 0;
        }
      }
    }
  }
  co_return Result<void>();
}

Async<void> LayeredDisk::do_write(uint64_t, Buffers, Durability) {
  co_return fail(Errc::read_only, "the disk is open for reading only");
}

Async<void> LayeredDisk::do_flush() {
  co_return fail(Errc::read_only, "the disk is open for reading only");
}

Async<void> LayeredDisk::do_zero(uint64_t, uint64_t) {
  co_return fail(Errc::read_only, "the disk is open for reading only");
}

}  // namespace vhdkit::disk
