#include "libvhd/resize.h"

#include <fmt/format.h>

#include <algorithm>

#include "disk/zero_range.h"
#include "libvhd/create.h"
#include "libvhd/fixed_layer.h"
#include "libvhd/fixed_writer.h"
#include "libvhd/table_reader.h"
#include "libvhd/table_writer.h"
#include "libvhd/used_space.h"

namespace vhdkit::libvhd {
namespace {

constexpr size_t piece_bytes = 64 * KiB;

Result<void> check_size(const File& file, DiskType type, uint64_t size_bytes) {
  const uint64_t most = type == DiskType::fixed ? max_fixed_bytes : max_dynamic_bytes;
  if (size_bytes > 0 && size_bytes <= most && is_aligned(size_bytes, sector_bytes)) return {};
  return fail(
      Errc::invalid_argument,
      fmt::format("{}: a size of {} bytes: a {} VHD has a multiple of {} from there to {}",
                  file.name(), size_bytes, disk_type_name(uint32_t(type)), sector_bytes, most));
}

HardDiskFooter with_size(HardDiskFooter footer, uint64_t size_bytes) {
  footer.current_size_bytes = size_bytes;
  footer.geometry = chs_of_size(size_bytes);
  if (footer.size_rule() == SizeRule::current_size) return footer;
  const HardDiskFooter ours;
  footer.creator_application = ours.creator_application;
  footer.creator_version = ours.creator_version;
  footer.creator_host_os = ours.creator_host_os;
  return footer;
}

// A dynamic or differencing image in the hands of one change of its size.
class Resizing {
 public:
  Resizing(File& file, FoundFooter found) : file_(file), found_(std::move(found)) {}

  // Changes nothing.
  Async<void> plan(uint64_t size_bytes) {
    CO_TRY(co_await look());
    new_footer_ = with_size(found_.footer, size_bytes);
    new_count_ = ceil_div(size_bytes, layout_.block_bytes);
    if (size_bytes > layout_.disk_bytes) CO_TRY(end_of_last_block());
    co_return Result<void>();
  }

  // REQUIRES: plan() found nothing.
  Async<void> run() {
    const uint64_t size_bytes = new_footer_.current_size_bytes;
    if (size_bytes == layout_.disk_bytes) co_return Result<void>();
    CO_TRY(co_await make_copy_equal(file_, found_));
    if (size_bytes > layout_.disk_bytes) co_return co_await grow();
    co_return co_await shrink();
  }

 private:
  // --- what is there ---

  Async<void> look() {
    const HardDiskFooter& footer = found_.footer;
    CO_TRY_LET(header_,
               co_await read_dynamic_header(file_, footer.data_offset, found_.content_end));
    if (footer.type == DiskType::differencing) {
      CO_TRY_LET(located_, co_await read_parent_locators(file_, header_, found_.content_end));
    }
    layout_ =
        layout_of(footer.size_bytes(), footer.data_offset, header_, located_, found_.content_end);
    CO_TRY(check_tables_can_change(file_, layout_));
    if (!is_aligned(footer.data_offset, sector_bytes))
      co_return refuse("its header does not begin with a sector");
    CO_TRY_LET(const std::vector<UsedRange> batmap, co_await used_by_batmap(file_, layout_));
    if (!batmap.empty()) co_return refuse("it has blktap's map of full blocks behind its BAT");
    co_return co_await collect_places();
  }

  std::unexpected<Error> refuse(std::string_view why) const {
    return fail(
        Errc::unsupported,
        fmt::format("{}: cannot be resized in place: {}; convert it instead", file_.name(), why));
  }

  Async<void> collect_places() {
    TableReader table(file_, layout_);
    std::span<const be32> entries;
    do {
      CO_TRY_LET(entries, co_await table.next());
      for (size_t i = 0; i < entries.size(); ++i) {
        const uint64_t block = table.first_index() + i;
        if (entries[i] == unused_bat_entry || block >= layout_.block_count()) continue;
        places_.push_back({.sector = entries[i], .block_index = uint32_t(block)});
      }
    } while (!entries.empty());
    std::ranges::sort(places_, {}, &BlockPlaces::Place::sector);
    CO_TRY_LET(beyond_, co_await used_beyond_disk(file_, layout_));
    co_return Result<void>();
  }

  // What begins in the file at or behind `begin` first; no_offset where nothing does.
  uint64_t next_use(uint64_t begin) const {
    uint64_t next = no_offset;
    for (const UsedRange& one : used_by_structures(layout_))
      if (one.begin >= begin) next = std::min(next, one.begin);
    for (const UsedRange& one : beyond_)
      if (one.begin >= begin) next = std::min(next, one.begin);
    const auto place = std::ranges::find_if(
        places_, [begin](const BlockPlaces::Place& one) { return begin_of(one.sector) >= begin; });
    return place == places_.end() ? next : std::min(next, begin_of(place->sector));
  }

  uint64_t end_of_use() const {
    uint64_t end = 0;
    for (const UsedRange& one : used_by_structures(layout_)) end = std::max(end, one.end);
    for (const BlockPlaces::Place& place : places_)
      end = std::max(end, end_of_room(layout_, place));
    return align_up(end, sector_bytes);
  }

  // Those of the disk's blocks.
  uint64_t end_of_entries() const {
    return layout_.table_offset + layout_.block_count() * sizeof(be32);
  }

  const BlockPlaces::Place* place_of(uint64_t block) const {
    const auto found = std::ranges::find(places_, block, &BlockPlaces::Place::block_index);
    return found == places_.end() ? nullptr : &*found;
  }

  uint64_t data_of(const BlockPlaces::Place& place) const {
    return begin_of(place.sector) + layout_.bitmap_bytes();
  }

  // --- growing ---

  Async<void> grow() {
    CO_TRY_LET(uint64_t end, end_of_last_block());
    end = std::max(end, layout_.content_end);
    const uint64_t table_bytes = align_up(new_count_ * sizeof(be32), sector_bytes);
    uint64_t table_offset = layout_.table_offset;
    // What the header counts beyond the disk's blocks may be a block's place.
    if (next_use(end_of_entries()) < table_offset + table_bytes)
      table_offset = align_up(std::max(end, file_.size_bytes()), sector_bytes);
    end = std::max(end, table_offset + table_bytes);
    if (end > layout_.content_end) CO_TRY(co_await move_tail(end));

    CO_TRY(co_await write_new_entries(table_offset));
    CO_TRY(co_await clear_end_of_block(layout_.disk_bytes));
    CO_TRY(co_await file_.flush());
    const uint64_t count = table_offset == layout_.table_offset
                               ? std::max<uint64_t>(new_count_, header_.max_table_entries)
                               : new_count_;
    CO_TRY(co_await write_header(table_offset, uint32_t(count)));
    co_return co_await write_footers();
  }

  // Where it ends when it is whole; 0 where it has no place. Old QEMU cut it off where the disk
  // ends.
  Result<uint64_t> end_of_last_block() const {
    const BlockPlaces::Place* const last = place_of(layout_.block_count() - 1);
    if (last == nullptr) return 0;
    const uint64_t end = data_of(*last) + layout_.block_bytes;
    if (next_use(begin_of(last->sector) + 1) < end)
      return refuse("the disk's last block has no room to grow in the file");
    return end;
  }

  // The same footer at the end of a longer file. What was behind the old end is the old footer.
  Async<void> move_tail(uint64_t end) {
    const uint64_t old_end = layout_.content_end;
    const uint64_t tail = align_up(std::max(end, file_.size_bytes()), sector_bytes);
    CO_TRY(co_await write_footer(file_, tail, found_.footer));
    layout_.content_end = tail;
    co_return co_await disk::zero_range(file_, old_end, tail - old_end);
  }

  // The BAT in its place gets entries behind those of the disk; in another place it gets all.
  Async<void> write_new_entries(uint64_t table_offset) {
    const uint64_t kept_bytes = layout_.block_count() * sizeof(be32);
    if (table_offset != layout_.table_offset) CO_TRY(co_await copy_table(table_offset, kept_bytes));
    const uint64_t end = align_up(new_count_ * sizeof(be32), sector_bytes);
    co_return co_await write_unused(table_offset + kept_bytes, table_offset + end);
  }

  Async<void> copy_table(uint64_t table_offset, uint64_t length) {
    std::vector<std::byte> bytes(piece_bytes);
    for (uint64_t done = 0; done < length;) {
      const auto piece = std::span(bytes).first(std::min<uint64_t>(bytes.size(), length - done));
      CO_TRY(co_await file_.read(layout_.table_offset + done, piece));
      const std::span<const std::byte> copy(piece);
      CO_TRY(co_await file_.write(table_offset + done, copy));
      done += piece.size();
    }
    co_return Result<void>();
  }

  Async<void> write_unused(uint64_t begin, uint64_t end) {
    const std::vector<std::byte> unused(piece_bytes, std::byte{0xff});
    while (begin < end) {
      const auto piece = std::span(unused).first(std::min<uint64_t>(unused.size(), end - begin));
      CO_TRY(co_await file_.write(begin, piece));
      begin += piece.size();
    }
    co_return Result<void>();
  }

  // What the block in which a disk of this size ends has behind that. Old QEMU cut the last block
  // off where the disk ended, and put the next one there.
  Async<void> clear_end_of_block(uint64_t disk_bytes) {
    const uint64_t in_block = disk_bytes % layout_.block_bytes;
    const BlockPlaces::Place* const place = place_of(disk_bytes / layout_.block_bytes);
    if (in_block == 0 || place == nullptr) co_return Result<void>();
    const uint64_t begin = data_of(*place) + in_block;
    const uint64_t end =
        std::min({data_of(*place) + layout_.block_bytes, layout_.content_end, next_use(begin)});
    if (begin < end) CO_TRY(co_await disk::zero_range(file_, begin, end - begin));
    co_return Result<void>();
  }

  // --- shrinking ---

  Async<void> shrink() {
    CO_TRY(co_await write_footers());
    // What the header counts beyond them may be a block's place.
    const uint64_t new_end = layout_.table_offset + new_count_ * sizeof(be32);
    CO_TRY(co_await write_unused(new_end, end_of_entries()));
    CO_TRY(co_await file_.flush());
    CO_TRY(co_await write_header(layout_.table_offset, uint32_t(new_count_)));
    for (const BlockPlaces::Place& place : places_) {
      if (place.block_index < new_count_) continue;
      const uint64_t begin = begin_of(place.sector);
      CO_TRY(co_await disk::zero_range(file_, begin, end_of_place(layout_, place) - begin));
    }
    std::erase_if(places_, [this](const auto& place) { return place.block_index >= new_count_; });
    CO_TRY(co_await clear_end_of_block(new_footer_.current_size_bytes));
    co_return co_await cut_file();
  }

  Async<void> cut_file() {
    header_.max_table_entries = uint32_t(new_count_);
    layout_ = layout_of(new_footer_.current_size_bytes, found_.footer.data_offset, header_,
                        located_, layout_.content_end);
    const uint64_t end = end_of_use();
    if (end + sizeof(Footer) >= file_.size_bytes()) co_return co_await file_.flush();
    CO_TRY(co_await write_footer(file_, end, new_footer_));
    CO_TRY(file_.resize(end + sizeof(Footer)));
    co_return co_await file_.flush();
  }

  // --- what counts ---

  // Only the header's first sector changes, so it is old or new.
  Async<void> write_header(uint64_t table_offset, uint32_t table_entries) {
    DynamicHeader raw;
    const auto buffer = writable_bytes_of(raw);
    CO_TRY(co_await file_.read(found_.footer.data_offset, buffer));
    raw.table_offset = table_offset;
    raw.max_table_entries = table_entries;
    raw.checksum = header_checksum(raw);
    const auto first_sector = bytes_of(raw).first(sector_bytes);
    CO_TRY(co_await file_.write(found_.footer.data_offset, first_sector));
    co_return co_await file_.flush();
  }

  Async<void> write_footers() {
    CO_TRY(co_await write_footer(file_, layout_.content_end, new_footer_));
    co_return co_await write_footer(file_, 0, new_footer_);
  }

  File& file_;
  FoundFooter found_;
  HardDiskFooter new_footer_;
  DynamicDiskHeader header_;
  std::vector<LocatedParent> located_;
  BlockLayout layout_;
  uint64_t new_count_ = 0;                  // of the new size's blocks
  std::vector<BlockPlaces::Place> places_;  // in the order of the file
  std::vector<UsedRange> beyond_;           // of a larger disk
};

}  // namespace

Async<void> resize(File& file, uint64_t size_bytes) {
  CO_TRY_LET(FoundFooter found, co_await find_footer(file));
  CO_TRY(check_size(file, found.footer.type, size_bytes));
  Resizing resizing(file, std::move(found));
  CO_TRY(co_await resizing.plan(size_bytes));
  co_return co_await resizing.run();
}

Async<void> check_resize(File& file, uint64_t size_bytes) {
  CO_TRY_LET(FoundFooter found, co_await find_footer(file));
  const DiskType type = found.footer.type;
  CO_TRY(check_size(file, type, size_bytes));
  if (type == DiskType::fixed) co_return Result<void>();
  Resizing resizing(file, std::move(found));
  co_return co_await resizing.plan(size_bytes);
}

Async<FixedCopy> copy_fixed(std::unique_ptr<File> file, File& target, uint64_t size_bytes) {
  CO_TRY_LET(FoundFooter found, co_await find_footer(*file));
  CO_TRY(check_size(*file, DiskType::fixed, size_bytes));
  const HardDiskFooter footer = found.footer;
  found.footer = with_size(footer, std::min(size_bytes, footer.size_bytes()));
  if (found.footer.size_bytes() > found.content_end)
    co_return fail(Errc::corrupt,
                   fmt::format("{}: the fixed disk of {:#x} bytes runs past its footer at offset "
                               "{:#x}",
                               file->name(), footer.size_bytes(), found.content_end));
  FixedCopy copy;
  copy.content = std::make_unique<FixedLayer>(std::move(file), std::move(found), false);
  copy.writer = std::make_unique<FixedWriter>(target, with_size(footer, size_bytes));
  co_return std::move(copy);
}

}  // namespace vhdkit::libvhd
