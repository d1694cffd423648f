#include "disk/block_writer.h"

#include <algorithm>
#include <cassert>

#include "disk/zero_range.h"

namespace vhdkit::disk {

BlockWriter::BlockWriter(File& file, std::unique_ptr<WritableTables> tables)
    : file_(file), tables_(std::move(tables)) {}

uint64_t BlockWriter::end_of_block(uint64_t block) const {
  return std::min((block + 1) * shape().block_bytes, shape().disk_bytes);
}

// Whether it reads as zeroes, whoever reads it.
bool BlockWriter::is_zero(const Block& block) const {
  return block.state == BlockState::zero ||
         (block.state == BlockState::absent && !shape().has_parent);
}

Async<void> BlockWriter::begin() {
  CO_TRY(usable());
  if (has_begun_) co_return Result<void>();
  const async::Mutex::Guard guard = co_await beginning_.lock();
  CO_TRY(usable());
  if (has_begun_) co_return Result<void>();
  const async::Mutex::Guard committing = co_await committing_.lock();
  CO_TRY(usable());
  auto begun = co_await tables_->begin();
  has_begun_ = begun.has_value();
  if (!begun) poison(begun.error());
  co_return begun;
}

// --- writes ---

std::optional<async::FileRange> BlockWriter::in_place(uint64_t disk_offset, uint64_t length) {
  if (!has_begun_ || !usable()) return std::nullopt;
  const uint64_t block = disk_offset / shape().block_bytes;
  const auto found = tables_->find(block);
  if (!found || !found->has_place()) return std::nullopt;
  length = std::min(length, end_of_block(block) - disk_offset);
  if (found->state == BlockState::partial) length = tables_->present_bytes(disk_offset, length);
  if (length == 0) return std::nullopt;
  return async::FileRange{found->file_offset + disk_offset % shape().block_bytes, length};
}

Async<WritePlace> BlockWriter::prepare(uint64_t disk_offset, uint64_t length) {
  CO_TRY(co_await begin());
  const uint64_t block = disk_offset / shape().block_bytes;
  assert(disk_offset + length <= end_of_block(block));
  WritePlace place{.disk_offset = disk_offset,
                   .length = length,
                   .file_offset = 0,
                   .block = block,
                   .block_offset = 0,
                   .held = {}};
  CO_TRY_LET(place.held, co_await tables_->hold(block, false));
  CO_TRY_LET(place.block_offset, co_await place_of(block));
  place.file_offset = place.block_offset + disk_offset % shape().block_bytes;
  co_return std::move(place);
}

// The block's own place, or the one that is reserved for it; the caller is one of its users now.
// One place is taken at a time: several that were taken for one block would lie upon each other at
// the file's end, and what is given back below the one that stays would be a gap.
// REQUIRES: the block is held.
Async<uint64_t> BlockWriter::place_of(uint64_t block) {
  if (!lacks_place(block)) co_return use_place(block);
  const async::Mutex::Guard guard = co_await taking_.lock();
  if (lacks_place(block)) {
    CO_TRY(co_await reclaim());
    const auto taken = co_await tables_->take_place();
    if (const auto error = tables_->flush_error()) poison(*error);
    CO_TRY(usable());
    if (!taken) co_return std::unexpected(taken.error());
    reserved_.insert_or_assign(block, Reserved{.file_offset = *taken});
  }
  co_return use_place(block);
}

bool BlockWriter::lacks_place(uint64_t block) const {
  const auto reserved = reserved_.find(block);
  const bool has_reserved = reserved != reserved_.end() && !reserved->second.was_named;
  return !has_reserved && !tables_->find(block)->has_place();
}

uint64_t BlockWriter::use_place(uint64_t block) {
  const Block now = *tables_->find(block);
  const auto reserved = reserved_.find(block);
  const uint64_t place = now.has_place() ? now.file_offset : reserved->second.file_offset;
  if (reserved != reserved_.end() && reserved->second.file_offset == place)
    ++reserved->second.user_count;
  return place;
}

Async<bool> BlockWriter::finish(WritePlace place, bool written) {
  Result<void> ready;
  if (written) ready = co_await hold_for_change(place.block, !covers_block(place), place.held);
  if (!written || !ready) spoil(place);
  const bool is_spoiled = spoiled_.contains(place.block_offset);
  if (written && ready && !is_spoiled) publish(place);
  CO_TRY(co_await leave(place));
  CO_TRY(std::move(ready));
  co_return !written || !is_spoiled;
}

// Afterwards, up to the next await, the block can change.
Async<void> BlockWriter::hold_for_change(uint64_t block, bool in_part, WritableTables::Held& held) {
  CO_TRY(usable());
  CO_TRY_LET(held, co_await tables_->hold(block, in_part));
  while (!tables_->has_room_for_change()) {
    CO_TRY(co_await commit());
    CO_TRY_LET(held, co_await tables_->hold(block, in_part));
  }
  co_return usable();
}

// A block may have been given up since the place was prepared: then zeroing it had no order with
// this write, and it stays zero. Its place is not the block's again as long as this is in flight.
void BlockWriter::publish(const WritePlace& place) {
  const Block now = *tables_->find(place.block);
  if (now.has_place()) {
    if (now.file_offset == place.block_offset && now.state == BlockState::partial)
      tables_->set_present(place.disk_offset, place.length);
    return;
  }
  const auto reserved = reserved_.find(place.block);
  if (reserved == reserved_.end() || reserved->second.was_named ||
      reserved->second.file_offset != place.block_offset)
    return;
  publish_new(place, reserved->second, now);
}

bool BlockWriter::covers_block(const WritePlace& place) const {
  return place.disk_offset % shape().block_bytes == 0 &&
         place.disk_offset + place.length == end_of_block(place.block);
}

void BlockWriter::publish_new(const WritePlace& place, Reserved& reserved, const Block& now) {
  reserved.was_named = true;
  const bool shows_parent = shape().has_parent && now.state == BlockState::absent;
  if (!shows_parent || covers_block(place)) {
    // What was not written reads as zeroes there, as it did before.
    const Block whole{.state = BlockState::whole, .file_offset = place.block_offset};
    tables_->set(place.block, whole);
    return;
  }
  tables_->set_empty(place.block, place.block_offset);
  tables_->set_present(place.disk_offset, place.length);
}

// Bytes of a failed write must not come to light later, when another write names the place: it is
// given up, and those who write there too write again.
void BlockWriter::spoil(const WritePlace& place) {
  const auto reserved = reserved_.find(place.block);
  const bool is_hidden = reserved != reserved_.end() && !reserved->second.was_named &&
                         reserved->second.file_offset == place.block_offset;
  if (!is_hidden) return;
  spoiled_[place.block_offset] = reserved->second.user_count;
  reserved_.erase(reserved);
}

// Where a place that nobody uses any more cannot be zeroed, it stays unused as long as the image is
// open.
Async<void> BlockWriter::leave(const WritePlace& place) {
  bool is_left_over = false;
  const auto reserved = reserved_.find(place.block);
  if (const auto spoiled = spoiled_.find(place.block_offset); spoiled != spoiled_.end()) {
    is_left_over = --spoiled->second == 0;
    if (is_left_over) spoiled_.erase(spoiled);
  } else if (reserved != reserved_.end() && reserved->second.file_offset == place.block_offset &&
             --reserved->second.user_count == 0) {
    is_left_over = !reserved->second.was_named;
    reserved_.erase(reserved);
  }
  if (is_left_over) std::ignore = co_await make_free(place.block_offset);
  co_return Result<void>();
}

// --- zeroes ---

Async<void> BlockWriter::zero(uint64_t disk_offset, uint64_t length) {
  CO_TRY(co_await begin());
  const uint64_t end = disk_offset + length;
  while (disk_offset < end) {
    const uint64_t block = disk_offset / shape().block_bytes;
    const uint64_t part_end = std::min(end, end_of_block(block));
    const bool covers_block =
        disk_offset % shape().block_bytes == 0 && part_end == end_of_block(block);
    const bool can_give_up = !shape().keeps_places && (shape().knows_zero || !shape().has_parent);
    if (covers_block && can_give_up) {
      CO_TRY(co_await zero_block(block));
    } else {
      bool done = false;
      while (!done) {
        CO_TRY_LET(done, co_await zero_part(disk_offset, part_end - disk_offset));
      }
    }
    disk_offset = part_end;
  }
  co_return Result<void>();
}

Async<void> BlockWriter::zero_block(uint64_t block) {
  WritableTables::Held held;
  CO_TRY(co_await hold_for_change(block, false, held));
  const Block now = *tables_->find(block);
  if (is_zero(now)) co_return Result<void>();
  const Block wanted{.state = shape().knows_zero ? BlockState::zero : BlockState::absent};
  tables_->set(block, wanted);
  if (now.has_place())
    given_up_.push_back({.file_offset = now.file_offset, .moment = in_flight().now()});
  co_return Result<void>();
}

// An undefined block becomes what it reads as.
Async<void> BlockWriter::define(uint64_t block) {
  WritableTables::Held held;
  CO_TRY(co_await hold_for_change(block, false, held));
  const bool is_undefined = tables_->find(block)->state == BlockState::undefined;
  if (is_undefined) tables_->set(block, {.state = BlockState::zero});
  co_return Result<void>();
}

// False: it must be done again.
Async<bool> BlockWriter::zero_part(uint64_t disk_offset, uint64_t length) {
  const uint64_t block = disk_offset / shape().block_bytes;
  CO_TRY_LET(const WritableTables::Held held, co_await tables_->hold(block, false));
  const Block now = *tables_->find(block);
  if (is_zero(now)) co_return true;
  if (now.state == BlockState::undefined) {
    CO_TRY(co_await define(block));
    co_return false;
  }
  CO_TRY_LET(WritePlace place, co_await prepare(disk_offset, length));
  auto zeroed = co_await zero_range(file_, place.file_offset, place.length);
  auto finished = co_await finish(std::move(place), zeroed.has_value());
  CO_TRY(std::move(zeroed));
  co_return finished;
}

// --- what reaches the file, and when ---

Async<void> BlockWriter::flush() {
  CO_TRY(usable());
  co_return co_await commit();
}

// One at a time. Who waits while one runs is served by the next one, with all others who wait.
Async<void> BlockWriter::commit() {
  const uint64_t wanted = begun_commits_ + 1;
  const async::Mutex::Guard guard = co_await committing_.lock();
  CO_TRY(usable());
  if (begun_commits_ >= wanted) co_return Result<void>();
  ++begun_commits_;
  const std::vector<GivenUp> freed = std::exchange(given_up_, {});
  auto committed = co_await tables_->commit();
  if (!committed) poison(committed.error());
  CO_TRY(usable());
  reclaimable_.insert(reclaimable_.end(), freed.begin(), freed.end());
  CO_TRY(co_await reclaim());
  co_return usable();
}

// Makes free what nobody in flight can use any more.
Async<void> BlockWriter::reclaim() {
  std::vector<GivenUp> free;
  std::erase_if(reclaimable_, [&](const GivenUp& place) {
    const bool has_passed = in_flight().has_passed(place.moment);
    if (has_passed) free.push_back(place);
    return has_passed;
  });
  for (const GivenUp& place : free) std::ignore = co_await make_free(place.file_offset);
  co_return Result<void>();
}

Async<void> BlockWriter::make_free(uint64_t file_offset) {
  const async::FileRange range = tables_->range_of_place(file_offset);
  CO_TRY(co_await zero_range(file_, range.file_offset, range.length));
  tables_->give_back(file_offset);
  co_return Result<void>();
}

Async<void> BlockWriter::close() {
  if (!has_begun_ || !usable()) co_return usable();
  CO_TRY(co_await commit());
  CO_TRY(co_await reclaim());
  co_return co_await tables_->close();
}

}  // namespace vhdkit::disk
