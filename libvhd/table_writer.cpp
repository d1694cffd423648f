#include "libvhd/table_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "async/task_group.h"
#include "disk/zero_range.h"
#include "libvhd/used_space.h"

namespace vhdkit::libvhd {
namespace {

// How far the file grows beyond what is asked for: each time costs a flush. It is a hole, and cut
// off at the end.
constexpr uint64_t growth_bytes = 64 * MiB;
constexpr uint64_t data_alignment = 4 * KiB;
// More changes than this are committed before the next one.
constexpr size_t max_changed_sectors = 4096;

}  // namespace

TableWriter::TableWriter(const Image& image, UsedSpace use)
    : file_(image.file),
      flusher_(image.file),
      footer_(build_footer(image.footer.footer)),
      copy_differs_(image.footer.copy == FooterCopy::different),
      layout_(image.layout),
      pieces_(image.pieces),
      shape_{.disk_bytes = image.layout.disk_bytes,
             .block_bytes = image.layout.block_bytes,
             .sector_bytes = sector_bytes,
             .has_parent = image.has_parent},
      space_(std::move(use.space)),
      last_block_(use.last_block),
      opened_bytes_(image.layout.content_end) {}

// --- space ---

Async<uint64_t> TableWriter::take_place() {
  const uint64_t begin = space_.take(place_bytes(), data_alignment, layout_.bitmap_bytes());
  const uint64_t end = begin + place_bytes();
  Result<void> taken;
  if (begin / sector_bytes >= unused_bat_entry)
    taken = fail(Errc::no_space, file_.name() + ": a BAT entry cannot name places beyond 2 TiB");
  if (taken) taken = co_await make_room(end);
  const uint64_t old_end = std::min(end, opened_bytes_);
  if (taken && begin < old_end) taken = co_await disk::zero_range(file_, begin, old_end - begin);
  if (taken) co_return begin + layout_.bitmap_bytes();
  space_.give_back(begin, place_bytes());
  co_return std::unexpected(std::move(taken).error());
}

// Moves the footer so that the content may end there.
Async<void> TableWriter::make_room(uint64_t end) {
  if (end <= layout_.content_end) co_return Result<void>();
  const uint64_t old_end = layout_.content_end;
  const uint64_t new_end = align_up(end + growth_bytes, sector_bytes);
  auto written = co_await write_footer(new_end);
  // Whatever is there of it now: it is zeroed before anything is put there.
  if (!written) opened_bytes_ = std::max(opened_bytes_, file_.size_bytes());
  CO_TRY(std::move(written));
  // What was behind the old end is the old footer, of 511 or 512 bytes.
  CO_TRY(co_await disk::zero_range(file_, old_end, sizeof(Footer)));
  layout_.content_end = new_end;
  co_return Result<void>();
}

Async<void> TableWriter::write_footer(uint64_t file_offset) {
  const auto bytes = bytes_of(footer_);
  CO_TRY(co_await file_.write(file_offset, bytes));
  co_return co_await flusher_.flush();
}

async::FileRange TableWriter::range_of_place(uint64_t file_offset) const {
  if (last_block_ && last_block_->file_offset + layout_.bitmap_bytes() == file_offset)
    return *last_block_;
  return {.file_offset = file_offset - layout_.bitmap_bytes(), .length = place_bytes()};
}

void TableWriter::give_back(uint64_t file_offset) {
  const async::FileRange range = range_of_place(file_offset);
  space_.give_back(range.file_offset, range.length);
  if (last_block_ && last_block_->file_offset == range.file_offset) last_block_.reset();
}

// --- tables in memory ---

Async<TableWriter::Held> TableWriter::hold(uint64_t block, bool) {
  Held held(2);
  const async::FileRange piece = piece_of_entry(layout_, block);
  CO_TRY_LET(held[0], co_await pieces_.read(file_, piece.file_offset, piece.length));
  uint32_t entry = unused_bat_entry;
  // The block may get another place while its bitmap is read.
  while (entry != *find_entry(layout_, pieces_, block)) {
    entry = *find_entry(layout_, pieces_, block);
    held[1] = nullptr;
    if (entry == unused_bat_entry) break;
    CO_TRY_LET(held[1], co_await pieces_.read(file_, begin_of(entry), layout_.bitmap_bytes()));
  }
  co_return std::move(held);
}

std::optional<disk::Block> TableWriter::find(uint64_t block) {
  const auto entry = find_entry(layout_, pieces_, block);
  if (!entry) return std::nullopt;
  if (*entry == unused_bat_entry) return disk::Block{.state = disk::BlockState::absent};
  return disk::Block{.state = disk::BlockState::partial,
                     .file_offset = begin_of(*entry) + layout_.bitmap_bytes()};
}

uint64_t TableWriter::present_bytes(uint64_t disk_offset, uint64_t length) {
  const auto entry = find_entry(layout_, pieces_, disk_offset / layout_.block_bytes);
  const disk::TablePiece* const bitmap = pieces_.find(begin_of(*entry));
  if (bitmap == nullptr) return 0;
  const uint64_t sector = disk_offset % layout_.block_bytes / sector_bytes;
  if (!bit_at(bitmap->bytes, sector)) return 0;
  const uint64_t end = sector + length / sector_bytes;
  return (end_of_run(bitmap->bytes, sector, end) - sector) * sector_bytes;
}

void TableWriter::put_entry(uint64_t block, uint32_t entry) {
  const be32 raw = entry;
  const size_t at = block % entries_per_piece * sizeof(be32);
  pieces_.change(piece_of_entry(layout_, block).file_offset, at, bytes_of(raw));
}

void TableWriter::set(uint64_t block, disk::Block value) {
  if (!value.has_place()) {
    put_entry(block, unused_bat_entry);
    return;
  }
  set_empty(block, value.file_offset);
  const std::vector<std::byte> ones(layout_.bitmap_bytes(), std::byte{0xff});
  pieces_.change(value.file_offset - layout_.bitmap_bytes(), 0, ones);
}

void TableWriter::set_empty(uint64_t block, uint64_t file_offset) {
  const uint64_t begin = file_offset - layout_.bitmap_bytes();
  pieces_.make(begin, layout_.bitmap_bytes());
  put_entry(block, uint32_t(begin / sector_bytes));
}

void TableWriter::set_present(uint64_t disk_offset, uint64_t length) {
  const uint64_t begin = begin_of(*find_entry(layout_, pieces_, disk_offset / layout_.block_bytes));
  const uint64_t first = disk_offset % layout_.block_bytes / sector_bytes;
  const uint64_t end = first + length / sector_bytes;
  const size_t first_byte = first / 8;
  const auto old =
      std::span(pieces_.find(begin)->bytes).subspan(first_byte, ceil_div(end, 8) - first_byte);
  std::vector<std::byte> bytes(old.begin(), old.end());
  for (uint64_t bit = first; bit < end; ++bit)
    bytes[bit / 8 - first_byte] |= std::byte(0x80 >> bit % 8);
  if (!std::ranges::equal(old, bytes)) pieces_.change(begin, first_byte, bytes);
}

bool TableWriter::has_room_for_change() const {
  return pieces_.changed_page_count() < max_changed_sectors;
}

// --- the file ---

Async<void> TableWriter::begin() {
  if (!copy_differs_) co_return Result<void>();
  copy_differs_ = false;
  co_return co_await write_footer(0);
}

Async<void> TableWriter::commit() {
  const std::vector<disk::ChangedPage> sectors = pieces_.take_changes();
  CO_TRY(co_await flusher_.flush());
  if (sectors.empty()) co_return Result<void>();
  async::TaskGroup writes;
  for (const disk::ChangedPage& sector : sectors) {
    const std::span<const std::byte> bytes(sector.bytes);
    writes.start(file_.write(sector.file_offset, bytes));
  }
  CO_TRY(co_await writes.finish());
  co_return co_await flusher_.flush();
}

Async<void> TableWriter::close() {
  const uint64_t end = align_up(space_.end(), sector_bytes);
  if (end + sizeof(Footer) >= file_.size_bytes()) co_return Result<void>();
  CO_TRY(co_await write_footer(end));
  co_return file_.resize(end + sizeof(Footer));
}

Result<void> check_tables_can_change(const File& file, const BlockLayout& layout) {
  const std::string where =
      fmt::format("{}: BAT at offset {:#x}", file.name(), layout.table_offset);
  if (!is_aligned(layout.table_offset, sector_bytes))
    return fail(Errc::corrupt, where + ": begins within a sector, so it cannot be changed");
  if (layout.table_entries < layout.block_count())
    return fail(Errc::corrupt, fmt::format("{}: has room for {} entries, the disk has {} blocks",
                                           where, layout.table_entries, layout.block_count()));
  const uint64_t room = align_up(layout.table_entries * sizeof(be32), sector_bytes);
  if (!range_fits(layout.table_offset, room, layout.content_end))
    return fail(Errc::corrupt, where + ": its last sector is cut off by the end of the content");
  return {};
}

Async<UsedSpace> take_stock(File& file, const BlockLayout& layout, BlockPlaces& places) {
  std::vector<UsedRange> used = used_by_structures(layout);
  CO_TRY_LET(const std::vector<UsedRange> batmap, co_await used_by_batmap(file, layout));
  used.insert(used.end(), batmap.begin(), batmap.end());
  CO_TRY_LET(const std::vector<UsedRange> beyond, co_await used_beyond_disk(file, layout));
  used.insert(used.end(), beyond.begin(), beyond.end());
  for (const BlockPlaces::Place& place : places.sorted())
    used.push_back({begin_of(place.sector), end_of_place(layout, place)});
  std::ranges::sort(used, {}, &UsedRange::begin);

  UsedSpace use{.space = disk::FileSpace(0, layout.block_bytes), .last_block = std::nullopt};
  const auto last = std::ranges::find(places.sorted(), layout.block_count() - 1,
                                      &BlockPlaces::Place::block_index);
  if (last != places.sorted().end()) {
    // Old QEMU cut the last block off where the disk ends, and put the next one there.
    const uint64_t begin = begin_of(last->sector);
    const auto next = std::ranges::upper_bound(used, begin, {}, &UsedRange::begin);
    const uint64_t limit = next == used.end() ? layout.content_end : next->begin;
    const uint64_t end = std::min(limit, begin + layout.bitmap_bytes() + layout.block_bytes);
    use.last_block = async::FileRange{begin, end - begin};
    used.push_back({begin, end});
  }
  // Padding may lie under something else, and so may what lies beyond the disk.
  for (const UsedRange& range : joined(std::move(used)))
    if (range.begin < range.end) use.space.use(range.begin, range.end - range.begin);
  co_return std::move(use);
}

}  // namespace vhdkit::libvhd
