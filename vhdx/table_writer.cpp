#include "vhdx/table_writer.h"

#include <algorithm>
#include <cassert>

#include "async/task_group.h"
#include "disk/zero_range.h"

namespace vhdkit::vhdx {
namespace {

// How far the file grows beyond what is asked for: fewer changes of its size to make durable.
constexpr uint64_t growth_bytes = 16 * MiB;

disk::BlockShape shape_of(const BatLayout& bat, bool keeps_places) {
  return {.disk_bytes = bat.disk_bytes,
          .block_bytes = bat.block_bytes,
          .sector_bytes = uint32_t(bat.logical_sector_bytes),
          .has_parent = bat.has_parent,
          .knows_zero = true,
          .keeps_places = keeps_places};
}

uint64_t entry_of(const disk::Block& block) {
  switch (block.state) {
    case disk::BlockState::absent:
      return make_bat_entry(BlockState::not_present, 0);
    case disk::BlockState::zero:
      return make_bat_entry(BlockState::zero, 0);
    case disk::BlockState::undefined:
      return make_bat_entry(BlockState::undefined, 0);
    case disk::BlockState::whole:
      return make_bat_entry(BlockState::fully_present, block.file_offset);
    case disk::BlockState::partial:
      return make_bat_entry(BlockState::partially_present, block.file_offset);
  }
  __builtin_unreachable();
}

}  // namespace

TableWriter::TableWriter(const Image& image, UsedSpace use)
    : file_(image.file),
      headers_(image.headers),
      layout_(image.layout),
      tables_(image.tables),
      shape_(shape_of(image.layout.bat, image.keeps_places)),
      keep_identity_(image.keep_identity),
      has_kept_places_(use.has_kept_places),
      space_(std::move(use.space)),
      opened_bytes_(image.file.size_bytes()),
      last_block_(use.last_block),
      log_(image.file, image.headers.current) {}

// --- space ---

Async<uint64_t> TableWriter::take(uint64_t length) {
  const uint64_t file_offset = space_.take(length, alignment_bytes);
  const uint64_t end = file_offset + length;
  Result<void> taken;
  if (end > file_.size_bytes()) taken = file_.resize(end + growth_bytes);
  layout_.file_bytes = file_.size_bytes();
  // Blocks that were given up, or never named, when somebody crashed.
  const uint64_t old_end = std::min(end, opened_bytes_);
  if (taken && file_offset < old_end)
    taken = co_await disk::zero_range(file_, file_offset, old_end - file_offset);
  if (taken) co_return file_offset;
  space_.give_back(file_offset, length);
  co_return std::unexpected(std::move(taken).error());
}

Async<uint64_t> TableWriter::take_place() { co_return co_await take(shape_.block_bytes); }

async::FileRange TableWriter::range_of_place(uint64_t file_offset) const {
  if (last_block_ && last_block_->file_offset == file_offset) return *last_block_;
  return {.file_offset = file_offset, .length = shape_.block_bytes};
}

void TableWriter::give_back(uint64_t file_offset) {
  const async::FileRange range = range_of_place(file_offset);
  space_.give_back(range.file_offset, range.length);
  if (last_block_ && last_block_->file_offset == file_offset) last_block_.reset();
}

// --- tables in memory ---

Async<TableWriter::Held> TableWriter::hold(uint64_t block, bool in_part) {
  Held held;
  const BatLayout& bat = layout_.bat;
  CO_TRY_LET(const Entries entries, co_await tables_.entries_at(bat.payload_index(block)));
  held.push_back(entries.piece);
  if (!bat.has_parent) co_return std::move(held);
  const uint64_t disk_offset = block * bat.block_bytes;
  const uint64_t chunk = block / bat.chunk_ratio();
  CO_TRY_LET(const Entries bitmap_entries, co_await tables_.entries_at(bat.bitmap_index(chunk)));
  held.push_back(bitmap_entries.piece);
  const disk::BlockState state = find(block)->state;
  const bool is_absent = state == disk::BlockState::absent;
  if (state != disk::BlockState::partial && !(is_absent && in_part)) co_return std::move(held);
  CO_TRY_LET(const uint64_t offset, co_await bitmap_offset(chunk));
  CO_TRY_LET(const Bits bits, co_await tables_.bits_in(offset, disk_offset));
  held.push_back(bits.piece);
  co_return std::move(held);
}

std::optional<uint64_t> TableWriter::find_bitmap_offset(uint64_t chunk) {
  const auto entry = tables_.find_entry(layout_.bat.bitmap_index(chunk));
  if (!entry) return std::nullopt;
  if (is_allocated(*entry)) return bat_file_offset_of(*entry);
  const auto reserved = new_bitmaps_.find(chunk);
  if (reserved == new_bitmaps_.end()) return std::nullopt;
  return reserved->second;
}

// REQUIRES: the chunk's entry is held.
Async<uint64_t> TableWriter::bitmap_offset(uint64_t chunk) {
  if (const auto found = find_bitmap_offset(chunk)) co_return *found;
  const async::Mutex::Guard guard = co_await taking_bitmap_.lock();
  if (const auto found = find_bitmap_offset(chunk)) co_return *found;
  CO_TRY_LET(const uint64_t file_offset, co_await take(sector_bitmap_bytes));
  new_bitmaps_.emplace(chunk, file_offset);
  co_return file_offset;
}

std::optional<disk::Block> TableWriter::find(uint64_t block) {
  const auto entry = tables_.find_entry(layout_.bat.payload_index(block));
  if (!entry) return std::nullopt;
  if (is_allocated(*entry))
    return disk::Block{
        .state = is_partial(*entry) ? disk::BlockState::partial : disk::BlockState::whole,
        .file_offset = bat_file_offset_of(*entry)};
  if (is_undefined(*entry)) return disk::Block{.state = disk::BlockState::undefined};
  const bool is_absent = bat_state_of(*entry) == uint64_t(BlockState::not_present);
  return disk::Block{.state = is_absent ? disk::BlockState::absent : disk::BlockState::zero};
}

uint64_t TableWriter::present_bytes(uint64_t disk_offset, uint64_t length) {
  const BatLayout& bat = layout_.bat;
  const auto offset = find_bitmap_offset(disk_offset / bat.chunk_bytes());
  if (!offset) return 0;
  const disk::TablePiece* const piece = tables_.find_bits(*offset, disk_offset);
  if (piece == nullptr) return 0;
  const uint64_t sector = disk_offset / bat.logical_sector_bytes % sectors_per_piece;
  if (!bit_at(piece->bytes, sector)) return 0;
  const uint64_t count = length / bat.logical_sector_bytes;
  return (end_of_run(piece->bytes, sector, sector + count) - sector) * bat.logical_sector_bytes;
}

void TableWriter::put_entry(uint64_t index, uint64_t entry) {
  const le64 raw = entry;
  const size_t at = index % entries_per_piece * sizeof(le64);
  tables_.pieces().change(tables_.piece_of_entry(index), at, bytes_of(raw));
}

void TableWriter::set(uint64_t block, disk::Block value) {
  put_entry(layout_.bat.payload_index(block), entry_of(value));
}

// Another program may have left bits of a block that is not partially present.
void TableWriter::set_empty(uint64_t block, uint64_t file_offset) {
  const uint64_t chunk = block / layout_.bat.chunk_ratio();
  if (const auto reserved = new_bitmaps_.find(chunk); reserved != new_bitmaps_.end()) {
    put_entry(layout_.bat.bitmap_index(chunk),
              make_bat_entry(BlockState::fully_present, reserved->second));
    new_bitmaps_.erase(reserved);
  }
  change_bits(block * shape_.block_bytes, layout_.bat.data_bytes(block), false);
  set(block, {.state = disk::BlockState::partial, .file_offset = file_offset});
}

void TableWriter::set_present(uint64_t disk_offset, uint64_t length) {
  change_bits(disk_offset, length, true);
}

void TableWriter::change_bits(uint64_t disk_offset, uint64_t length, bool here) {
  const BatLayout& bat = layout_.bat;
  const uint64_t offset = *find_bitmap_offset(disk_offset / bat.chunk_bytes());
  const disk::TablePiece& piece = *tables_.find_bits(offset, disk_offset);
  const uint64_t first = disk_offset / bat.logical_sector_bytes % sectors_per_piece;
  const uint64_t end = first + length / bat.logical_sector_bytes;
  const size_t first_byte = first / 8;
  const size_t byte_count = ceil_div(end, 8) - first_byte;
  const auto old = std::span(piece.bytes).subspan(first_byte, byte_count);
  std::vector<std::byte> bytes(old.begin(), old.end());
  for (uint64_t bit = first; bit < end; ++bit) {
    const std::byte mask{uint8_t(1U << (bit % 8))};
    std::byte& byte = bytes[bit / 8 - first_byte];
    byte = here ? byte | mask : byte & ~mask;
  }
  if (!std::ranges::equal(old, bytes))
    tables_.pieces().change(piece.file_offset, first_byte, bytes);
}

bool TableWriter::has_room_for_change() const {
  const uint64_t bits_bytes = shape_.block_bytes / shape_.sector_bytes / 8;
  const uint64_t bits_pages = shape_.has_parent ? ceil_div(bits_bytes, log_sector_bytes) + 1 : 0;
  const uint64_t entry_pages = shape_.has_parent ? 2 : 1;
  return tables_.pieces().changed_page_count() + entry_pages + bits_pages <= max_entry_pages;
}

// --- the file ---

Async<void> TableWriter::begin() {
  CO_TRY(check_sequence_room(file_, headers_));
  headers_.current.file_write_guid = Guid::random();
  if (!keep_identity_) headers_.current.data_write_guid = Guid::random();
  CO_TRY(co_await write_headers(file_, headers_));
  CO_TRY(co_await align_end(file_));
  layout_.file_bytes = file_.size_bytes();
  if (!has_kept_places_) co_return Result<void>();
  co_return co_await give_up_kept_places();
}

// Nobody gets a place that another entry names: all who keep one give it up before the first is
// given out. The blocks read as before.
Async<void> TableWriter::give_up_kept_places() {
  Entries entries;
  for (uint64_t index = 0; index < layout_.bat.entry_count(); ++index) {
    if (!entries.have(index)) {
      CO_TRY_LET(const std::optional<uint64_t> next, tables_.next_entry(index));
      if (!next) break;
      index = *next;
      CO_TRY_LET(entries, co_await tables_.entries_at(index));
    }
    const uint64_t entry = entries.at(index);
    if (!keeps_place(entry) || !layout_.bat.is_used(index)) continue;
    if (!has_room_for_change()) CO_TRY(co_await commit());
    put_entry(index, make_bat_entry(BlockState(bat_state_of(entry)), 0));
  }
  if (!has_changes()) co_return Result<void>();
  co_return co_await commit();
}

Async<void> TableWriter::commit() {
  const std::vector<disk::ChangedPage> pages = tables_.pieces().take_changes();
  const FileEnds ends{.flushed = file_.size_bytes(),
                      .last = align_up(space_.end(), alignment_bytes)};
  CO_TRY(co_await file_.flush());
  if (pages.empty()) co_return Result<void>();
  const std::span<const disk::ChangedPage> all(pages);
  CO_TRY(co_await log_.write(all, ends));
  if (headers_.current.log_is_empty()) {
    headers_.current.log_guid = log_.guid();
    CO_TRY(co_await write_headers(file_, headers_));
  }
  co_return co_await put_in_place(all);
}

Async<void> TableWriter::put_in_place(std::span<const disk::ChangedPage> pages) {
  async::TaskGroup writes;
  for (const disk::ChangedPage& page : pages) {
    const std::span<const std::byte> bytes(page.bytes);
    writes.start(file_.write(page.file_offset, bytes));
  }
  co_return co_await writes.finish();
}

Async<void> TableWriter::close() {
  for (const auto& [chunk, file_offset] : new_bitmaps_)
    space_.give_back(file_offset, sector_bitmap_bytes);
  new_bitmaps_.clear();
  CO_TRY(co_await file_.flush());
  if (!headers_.current.log_is_empty()) {
    headers_.current.log_guid = Guid();
    CO_TRY(co_await write_headers(file_, headers_));
  }
  // [MS-VHDX] 2.6.2.1: a fixed disk's file has room for the blocks that are not there yet.
  const uint64_t end = std::max(space_.end(), shape_.keeps_places ? opened_bytes_ : 0);
  if (end < file_.size_bytes()) co_return file_.resize(end);
  co_return Result<void>();
}

}  // namespace vhdkit::vhdx
