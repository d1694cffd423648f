#include <fmt/format.h>

#include <algorithm>

#include "vhdx/check_parts.h"

namespace vhdkit::vhdx {
namespace {

using disk::Findings;
using disk::hex;
using disk::Severity;
using disk::Subject;
using Place = BlockPlaces::Place;

struct Range {
  uint64_t begin;
  uint64_t end;  // bytes
};

// With what the disk's last block has beyond the disk's end.
uint64_t end_of_room(const ImageLayout& layout, const Place& place) {
  const bool is_bitmap = layout.bat.is_bitmap_index(place.index);
  return place.file_offset + (is_bitmap ? sector_bitmap_bytes : layout.bat.block_bytes);
}

uint64_t end_of_data(const ImageLayout& layout, const Place& place) {
  return place.file_offset + layout.block_length(place.index);
}

Subject block_subject(const ImageLayout& layout, const Place& place, Findings& findings) {
  return {findings, entry_name(layout.bat, place.index), layout.entry_offset(place.index)};
}

void check_apart(const ImageLayout& layout, const std::vector<Place>& blocks, Findings& findings) {
  const Place* last = nullptr;  // the one that reaches farthest
  for (const Place& place : blocks) {
    if (last && place.file_offset < end_of_data(layout, *last))
      block_subject(layout, place, findings)
          .add(Severity::corruption, "vhdx-blocks-overlap", "FileOffsetMB", 0,
               hex(place.file_offset),
               fmt::format("file offset {:#x} puts the block upon {} ({:#x} to {:#x})",
                           place.file_offset, entry_name(layout.bat, last->index),
                           last->file_offset, end_of_data(layout, *last)));
    if (!last || end_of_data(layout, place) > end_of_data(layout, *last)) last = &place;
  }
}

// What an undefined or unmapped block keeps is its own. [MS-VHDX] 2.5.1. Here it is never read, but
// another program may show it.
void check_kept(const ImageLayout& layout, const std::vector<Place>& blocks,
                const std::vector<Place>& kept, Findings& findings) {
  for (const Place& place : kept) {
    const auto behind =
        std::ranges::lower_bound(blocks, end_of_data(layout, place), {}, &Place::file_offset);
    if (behind == blocks.begin()) continue;
    const Place& block = *std::prev(behind);
    if (end_of_data(layout, block) <= place.file_offset) continue;
    block_subject(layout, place, findings)
        .add(Severity::warning, "vhdx-kept-place", "FileOffsetMB", 0, hex(place.file_offset),
             fmt::format("keeps a place at file offset {:#x}, upon {} ({:#x} to {:#x})",
                         place.file_offset, entry_name(layout.bat, block.index), block.file_offset,
                         end_of_data(layout, block)));
  }
}

std::vector<Range> used_ranges(const ImageLayout& layout, BlocksToCheck& blocks) {
  std::vector<Range> used;
  for (const Structure& one : layout.structures)
    used.push_back({one.file_offset, one.file_offset + one.length});
  for (BlockPlaces* places : {&blocks.allocated, &blocks.kept})
    for (const Place& place : places->sorted())
      used.push_back({place.file_offset, std::min(end_of_room(layout, place), layout.file_bytes)});
  std::ranges::sort(used, {}, [](const Range& range) { return std::pair(range.begin, range.end); });
  return used;
}

// The first byte behind the block that belongs to something else or not to the file.
uint64_t next_used(const std::vector<Range>& used, const Place& place, uint64_t file_bytes) {
  const auto next = std::ranges::upper_bound(used, place.file_offset, {}, &Range::begin);
  return next == used.end() ? file_bytes : next->begin;
}

// Old QEMU gave the disk's last block only the bytes that the disk has; its fixed disks end so
// still.
void check_last_block(const ImageLayout& layout, const std::vector<Place>& blocks,
                      const std::vector<Range>& used, Findings& findings) {
  if (layout.bat.payload_block_count() == 0) return;
  const uint64_t index = layout.bat.payload_index(layout.bat.payload_block_count() - 1);
  const auto last = std::ranges::find(blocks, index, &Place::index);
  if (last == blocks.end()) return;
  const uint64_t end = next_used(used, *last, layout.file_bytes);
  if (end >= end_of_room(layout, *last) || end < end_of_data(layout, *last)) return;
  block_subject(layout, *last, findings)
      .add(Severity::warning, "vhdx-last-block-short", "FileOffsetMB", 0, hex(last->file_offset),
           fmt::format("the disk's last block has {:#x} bytes of {:#x}: the disk's are all there, "
                       "as QEMU leaves it",
                       end - last->file_offset, layout.bat.block_bytes));
}

// The gaps between the used ranges, the last one up to the file's end.
std::vector<Range> gaps_between(const std::vector<Range>& used, uint64_t file_bytes) {
  std::vector<Range> gaps;
  uint64_t end = 0;
  for (const Range& range : used) {
    if (range.begin > end) gaps.push_back({end, range.begin});
    end = std::max(end, range.end);
  }
  if (file_bytes > end) gaps.push_back({end, file_bytes});
  return gaps;
}

// How much room before the first block is no leak, or anywhere in a fixed disk's file that has room
// for blocks still absent. QEMU begins blocks 5 MiB behind its BAT (block/vhdx.c, vhdx_create_bat),
// of which the metadata region takes 1; a fixed disk has room for every block.
uint64_t spare_bytes(const ImageToCheck& image, const disk::BlockUsage& usage) {
  constexpr uint64_t left_by_qemu = 4 * MiB;
  const uint64_t absent_blocks =
      image.is_fixed ? usage.total - std::min(usage.allocated, usage.total) : 0;
  return left_by_qemu + absent_blocks * image.layout.bat.block_bytes;
}

// What gaps are compared with.
struct Gaps {
  std::vector<Range> gaps;
  uint64_t first_block = 0;  // where it begins, bytes; the end of the file where there is none
  uint64_t image_end = 0;
  uint64_t spare_bytes = 0;
  bool has_absent = false;  // blocks of a fixed disk
};

void check_gaps(const Gaps& all, Findings& findings) {
  uint64_t total = 0;
  for (const Range& gap : all.gaps) total += gap.end - gap.begin;
  for (const Range& gap : all.gaps) {
    const uint64_t length = gap.end - gap.begin;
    const bool is_tail = gap.begin == all.image_end;
    // Less than the unit of everything is how a file ends that was not cut off at one.
    if (is_tail && length < alignment_bytes) continue;
    const bool is_spare = (gap.end <= all.first_block && length <= all.spare_bytes) ||
                          (all.has_absent && total <= all.spare_bytes);
    Subject space(findings, "unused space", gap.begin);
    space.add(
        is_spare ? Severity::note : Severity::leak,
        is_spare  ? "vhdx-spare-space"
        : is_tail ? "vhdx-unused-tail"
                  : "vhdx-unused-space",
        "", 0, hex(length),
        fmt::format("nothing uses the {:#x} bytes from {:#x} to {}; unused in all: {:#x}", length,
                    gap.begin, is_tail ? "the end of the file" : hex(gap.end), total));
  }
}

void check_file_size(uint64_t file_bytes, Findings& findings) {
  if (is_aligned(file_bytes, alignment_bytes)) return;
  Subject file(findings, "file", 0);
  file.add(Severity::note, "vhdx-file-size", "", 0, hex(file_bytes),
           fmt::format("size {:#x} is not a multiple of 1 MiB", file_bytes));
}

}  // namespace

void check_space(const ImageToCheck& image, BlocksToCheck& blocks, Findings& findings,
                 disk::BlockUsage& usage) {
  const ImageLayout& layout = image.layout;
  const std::vector<Place>& allocated = blocks.allocated.sorted();
  check_apart(layout, allocated, findings);
  check_kept(layout, allocated, blocks.kept.sorted(), findings);
  const std::vector<Range> used = used_ranges(layout, blocks);
  check_last_block(layout, allocated, used, findings);
  usage.image_end_offset = std::ranges::max(used, {}, &Range::end).end;
  // With only some of the blocks there are gaps where the others lie.
  if (blocks.are_all)
    check_gaps({.gaps = gaps_between(used, layout.file_bytes),
                .first_block = allocated.empty() ? layout.file_bytes : allocated[0].file_offset,
                .image_end = usage.image_end_offset,
                .spare_bytes = spare_bytes(image, usage),
                .has_absent = image.is_fixed && usage.allocated < usage.total},
               findings);
  check_file_size(layout.file_bytes, findings);
}

}  // namespace vhdkit::vhdx
