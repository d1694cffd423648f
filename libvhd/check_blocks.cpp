#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "async/task_group.h"
#include "libvhd/check_parts.h"
#include "libvhd/table_reader.h"
#include "libvhd/used_space.h"

namespace vhdkit::libvhd {
namespace {

using disk::Findings;
using disk::Severity;
using Place = BlockPlaces::Place;

constexpr uint64_t data_alignment = 4 * KiB;
constexpr size_t readers_at_once = 8;

Subject entry_subject(const BlockLayout& layout, uint64_t block_index, Findings& findings) {
  return {findings, fmt::format("BAT entry {}", block_index),
          layout.table_offset + block_index * sizeof(be32)};
}

// Blocks that have something in common worth one note.
struct Tally {
  uint64_t count = 0;
  Place first = {};

  void add(const Place& place) {
    if (count++ == 0) first = place;
  }
};

void note(const Tally& tally, std::string code, const std::string& message, Findings& findings) {
  if (tally.count == 0) return;
  Subject block(findings, fmt::format("block {}", tally.first.block_index),
                begin_of(tally.first.sector));
  block.add(Severity::note, std::move(code), "", 0, std::to_string(tally.count),
            fmt::format("{}; blocks like it: {}", message, tally.count));
}

// The BAT's entries, one after the other in guest order.
class EntryCheck {
 public:
  EntryCheck(const BlockLayout& layout, Findings& findings, disk::BlockUsage& usage)
      : layout_(layout), findings_(findings), usage_(usage), inside_(layout), beyond_(layout) {}

  void look_at(uint64_t block_index, uint32_t entry) {
    if (entry == unused_bat_entry) return;
    const Place place{.sector = entry, .block_index = uint32_t(block_index)};
    if (block_index < layout_.block_count()) {
      look_inside(place);
    } else {
      look_beyond(place);
    }
  }

  // The blocks of the disk that lie in the content and upon no structure, in file order.
  const std::vector<Place>& blocks() { return inside_.sorted(); }
  // Whole blocks that larger disks would have.
  const std::vector<Place>& blocks_beyond() { return beyond_.sorted(); }
  // False: the file has more blocks than it has room for, so only some are here.
  bool has_all() const { return has_all_; }
  const Tally& unaligned() const { return unaligned_; }

 private:
  void look_inside(const Place& place) {
    ++usage_.allocated;
    if (const auto fault = entry_fault(layout_, place.block_index, place.sector)) {
      tell(place, *fault);
      return;
    }
    const uint64_t begin = begin_of(place.sector);
    const bool is_behind = begin >= previous_end_ && begin - previous_end_ < data_alignment;
    if (previous_end_ != 0 && !is_behind) ++usage_.fragmented;
    previous_end_ = end_of_place(layout_, place);
    if (!is_aligned(begin + layout_.bitmap_bytes(), data_alignment)) unaligned_.add(place);
    has_all_ = inside_.add(place.block_index, place.sector) && has_all_;
  }

  void tell(const Place& place, const EntryFault& fault) {
    const bool is_past_end = fault.kind == EntryFault::Kind::past_end;
    const char* code = is_past_end ? "vhd-bat-entry-past-end" : "vhd-bat-entry-in-metadata";
    // A hostile BAT has billions of them: those that are only counted get no text.
    if (++told_[size_t(fault.kind)] > Findings::kept_per_code) {
      findings_.add({.severity = Severity::corruption, .code = code});
      return;
    }
    Subject entry = entry_subject(layout_, place.block_index, findings_);
    entry.add(Severity::corruption, code, "", 0, hex(place.sector),
              fault_text(layout_, place.block_index, place.sector, fault));
  }

  // The disk may end before the blocks do: by its geometry, or because it was made with room to
  // grow. Nobody reads such a block, but whoever takes the disk for larger has it in use.
  void look_beyond(const Place& place) {
    if (begin_of(place.sector) + layout_.bitmap_bytes() + layout_.block_bytes <=
        layout_.content_end)
      has_all_ = beyond_.add(place.block_index, place.sector) && has_all_;
  }

  const BlockLayout& layout_;
  Findings& findings_;
  disk::BlockUsage& usage_;
  BlockPlaces inside_;
  BlockPlaces beyond_;
  Tally unaligned_;
  uint64_t told_[2] = {};      // by kind of fault
  uint64_t previous_end_ = 0;  // of the block before
  bool has_all_ = true;
};

void check_apart(const BlockLayout& layout, const std::vector<Place>& blocks, Findings& findings) {
  const Place* last = nullptr;  // the one that reaches farthest
  for (const Place& place : blocks) {
    if (last && begin_of(place.sector) < end_of_place(layout, *last)) {
      Subject entry = entry_subject(layout, place.block_index, findings);
      entry.add(
          Severity::corruption, "vhd-blocks-overlap", "", 0, hex(place.sector),
          fmt::format("sector {:#x} puts the block upon block {} ({:#x} to {:#x})", place.sector,
                      last->block_index, begin_of(last->sector), end_of_place(layout, *last)));
    }
    if (!last || end_of_place(layout, place) > end_of_place(layout, *last)) last = &place;
  }
}

uint64_t count_set_bits(std::span<const std::byte> bitmap, uint64_t sector_count) {
  uint64_t count = 0;
  for (const std::byte byte : bitmap.first(sector_count / 8))
    count += uint64_t(std::popcount(std::to_integer<uint8_t>(byte)));
  if (const uint64_t rest = sector_count % 8)
    count += uint64_t(
        std::popcount(uint8_t(std::to_integer<uint8_t>(bitmap[sector_count / 8]) >> (8 - rest))));
  return count;
}

// The sector bitmaps, read in file order by several readers.
struct BitmapCheck {
  File& file;
  const BlockLayout& layout;
  const std::vector<Place>& blocks;
  size_t next = 0;
  Tally with_clear_bits = {};
  Tally empty = {};

  Async<void> read_some() {
    std::vector<std::byte> bitmap(layout.bitmap_bytes());
    const std::span<std::byte> buffer(bitmap);
    while (next < blocks.size()) {
      const Place place = blocks[next++];
      CO_TRY(co_await file.read(begin_of(place.sector), buffer));
      const uint64_t sectors = layout.data_bytes(place.block_index) / sector_bytes;
      const uint64_t set = count_set_bits(bitmap, sectors);
      if (set < sectors) with_clear_bits.add(place);
      if (set == 0) empty.add(place);
    }
    co_return Result<void>();
  }

  Async<void> read_all() {
    async::TaskGroup readers;
    const size_t count = std::min(readers_at_once, blocks.size());
    for (size_t i = 0; i < count; ++i) readers.start(read_some());
    co_return co_await readers.finish();
  }
};

void note_bitmaps(const BitmapCheck& bitmaps, DiskType type, Findings& findings) {
  if (type == DiskType::differencing)
    note(bitmaps.empty, "vhd-bitmap-empty",
         "its sector bitmap is all zeroes: it hides nothing of the parent and only takes space",
         findings);
  else
    note(bitmaps.with_clear_bits, "vhd-bitmap-clear",
         "its sector bitmap leaves sectors out: they are zeroes, but programs that do not look at "
         "it, as QEMU, show what lies in the block",
         findings);
}

// Before the first block there may be room for no block: a disk that grew has its BAT behind its
// blocks, and the old one's place is nobody's.
void check_space(const BlockLayout& layout, std::vector<UsedRange> used, uint64_t first_block,
                 Findings& findings) {
  const uint64_t least_use = layout.bitmap_bytes() + layout.block_bytes;
  for (const UsedRange& gap : unused_ranges(std::move(used), layout.content_end)) {
    const bool is_spare = gap.end <= first_block && gap.end - gap.begin < least_use;
    Subject space(findings, "unused space", gap.begin);
    space.add(is_spare ? Severity::note : Severity::leak,
              is_spare ? "vhd-spare-space" : "vhd-unused-space", "", 0, hex(gap.end - gap.begin),
              fmt::format("nothing uses the {:#x} bytes from {:#x} to {:#x}", gap.end - gap.begin,
                          gap.begin, gap.end));
  }
}

}  // namespace

Async<void> check_blocks(File& file, const BlockLayout& layout, DiskType type, Findings& findings,
                         disk::BlockUsage& usage) {
  usage.total = layout.block_count();
  EntryCheck check(layout, findings, usage);
  TableReader table(file, layout);
  std::span<const be32> entries;
  do {
    CO_TRY_LET(entries, co_await table.next());
    for (size_t i = 0; i < entries.size(); ++i) check.look_at(table.first_index() + i, entries[i]);
  } while (!entries.empty());
  check_apart(layout, check.blocks(), findings);
  note(check.unaligned(), "vhd-blocks-unaligned",
       "its data does not begin on a multiple of 4 KiB: writing takes longer, and Windows places "
       "new "
       "blocks likewise (makevhdx, issue 5)",
       findings);
  BitmapCheck bitmaps{.file = file, .layout = layout, .blocks = check.blocks()};
  CO_TRY(co_await bitmaps.read_all());
  note_bitmaps(bitmaps, type, findings);

  std::vector<UsedRange> used = used_by_structures(layout);
  CO_TRY_LET(const std::vector<UsedRange> batmap, co_await used_by_batmap(file, layout));
  used.insert(used.end(), batmap.begin(), batmap.end());
  for (const auto* places : {&check.blocks(), &check.blocks_beyond()})
    for (const Place& place : *places)
      used.push_back({.begin = begin_of(place.sector), .end = end_of_room(layout, place)});
  usage.image_end_offset = std::ranges::max(used, {}, &UsedRange::end).end;
  const uint64_t first_block =
      check.blocks().empty() ? layout.content_end : begin_of(check.blocks().front().sector);
  if (check.has_all()) check_space(layout, std::move(used), first_block, findings);
  co_return Result<void>();
}

}  // namespace vhdkit::libvhd
