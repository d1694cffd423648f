#include "libvhd/used_space.h"

#include <algorithm>

#include "libvhd/table_reader.h"

namespace vhdkit::libvhd {
namespace {

// Where the metadata ends and where a block's data begins, writers go on at a multiple of 4 KiB.
constexpr uint64_t least_gap = 2 * 4 * KiB;

UsedRange cut(uint64_t begin, uint64_t length, uint64_t content_end) {
  return {.begin = std::min(begin, content_end),
          .end = checked_add(begin, length) ? std::min(begin + length, content_end) : content_end};
}

}  // namespace

uint64_t end_of_room(const BlockLayout& layout, const BlockPlaces::Place& place) {
  const uint64_t end = begin_of(place.sector) + layout.bitmap_bytes() + layout.block_bytes;
  return std::min(end, layout.content_end);
}

std::vector<UsedRange> used_by_structures(const BlockLayout& layout) {
  std::vector<UsedRange> used;
  for (const Structure& structure : layout.structures)
    used.push_back(cut(structure.file_offset, structure.room, layout.content_end));
  return used;
}

Async<std::vector<UsedRange>> used_by_batmap(File& file, const BlockLayout& layout) {
  std::vector<UsedRange> used;
  const uint64_t begin =
      layout.table_offset + align_up(layout.table_entries * sizeof(be32), sector_bytes);
  if (!range_fits(begin, sector_bytes, layout.content_end)) co_return used;
  BatmapHeader header;
  const auto buffer = writable_bytes_of(header);
  CO_TRY(co_await file.read(begin, buffer));
  if (header.cookie != batmap_cookie) co_return used;
  used.push_back(cut(begin, sector_bytes, layout.content_end));
  const uint64_t map_bytes = uint64_t{header.batmap_size} * sector_bytes;
  used.push_back(cut(header.batmap_offset, map_bytes, layout.content_end));
  co_return used;
}

Async<std::vector<UsedRange>> used_beyond_disk(File& file, const BlockLayout& layout) {
  std::vector<UsedRange> used;
  TableReader table(file, layout, layout.block_count());
  std::span<const be32> entries;
  do {
    CO_TRY_LET(entries, co_await table.next());
    const uint64_t block_bytes = layout.bitmap_bytes() + layout.block_bytes;
    for (const uint32_t entry : entries)
      if (entry != unused_bat_entry && begin_of(entry) < layout.content_end)
        used.push_back(cut(begin_of(entry), block_bytes, layout.content_end));
    used = joined(std::move(used));
  } while (!entries.empty());
  co_return used;
}

std::vector<UsedRange> joined(std::vector<UsedRange> ranges) {
  std::ranges::sort(ranges, {}, &UsedRange::begin);
  std::vector<UsedRange> apart;
  for (const UsedRange& range : ranges) {
    if (apart.empty() || range.begin > apart.back().end) {
      apart.push_back(range);
    } else {
      apart.back().end = std::max(apart.back().end, range.end);
    }
  }
  return apart;
}

std::vector<UsedRange> unused_ranges(std::vector<UsedRange> used, uint64_t content_end) {
  std::vector<UsedRange> unused;
  used.push_back({.begin = content_end, .end = content_end});
  std::ranges::sort(used, {}, &UsedRange::begin);
  uint64_t end = 0;
  for (const UsedRange& range : used) {
    if (range.begin >= end + least_gap) unused.push_back({.begin = end, .end = range.begin});
    end = std::max(end, range.end);
  }
  return unused;
}

}  // namespace vhdkit::libvhd
