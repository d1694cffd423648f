#include <fmt/format.h>

#include <algorithm>

#include "vhdx/check_parts.h"

namespace vhdkit::vhdx {
namespace {

using disk::Findings;
using disk::hex;
using disk::Severity;
using disk::Subject;

constexpr uint64_t piece_entries = 64 * KiB / sizeof(le64);

bool has_state(uint64_t entry, BlockState state) { return bat_state_of(entry) == uint64_t(state); }

// The BAT's entries that are not zero, one after the other.
class EntryCheck {
 public:
  EntryCheck(const ImageLayout& layout, Findings& findings, disk::BlockUsage& usage)
      : layout_(layout),
        findings_(findings),
        usage_(usage),
        blocks_{.allocated = BlockPlaces(layout.file_bytes),
                .kept = BlockPlaces(layout.file_bytes)} {}

  void look_at(uint64_t index, uint64_t entry) {
    settle_partial_blocks(index);
    check_reserved_bits(index, entry);
    entry &= ~bat_reserved_mask;
    if (layout_.bat.is_bitmap_index(index)) {
      look_at_bitmap(index, entry);
    } else {
      look_at_payload(index, entry);
    }
  }

  BlocksToCheck finish() {
    settle_partial_blocks(layout_.bat.entry_count());
    return std::move(blocks_);
  }

 private:
  // Partially present blocks of one chunk, until the chunk's bitmap was seen.
  struct PartialBlocks {
    uint64_t chunk = 0;
    uint64_t first_index = 0;  // of the BAT
    uint64_t count = 0;
  };

  Subject subject_of(uint64_t index) const {
    return {findings_, entry_name(layout_.bat, index), layout_.entry_offset(index)};
  }

  void check_reserved_bits(uint64_t index, uint64_t entry) {
    if ((entry & bat_reserved_mask) != 0)
      subject_of(index).add(
          Severity::corruption, "vhdx-bat-entry-reserved", "Reserved", 0, hex(entry),
          fmt::format("{:#x} has reserved bits set ({:#x})", entry, entry & bat_reserved_mask));
  }

  void look_at_payload(uint64_t index, uint64_t entry) {
    const uint64_t block = layout_.bat.block_of(index);
    if (block >= layout_.bat.payload_block_count()) return;  // pads the last chunk
    if (has_state(entry, BlockState::partially_present) && layout_.bat.has_parent)
      add_partial(block, index);
    const bool can_be_followed = check_fault(index, entry);
    if (!is_allocated(entry)) {
      if (keeps_place(entry)) keep(index, entry);
      return;
    }
    ++usage_.allocated;
    const uint64_t begin = bat_file_offset_of(entry);
    if (previous_end_ != 0 && begin != previous_end_) ++usage_.fragmented;
    previous_end_ = begin + layout_.bat.block_bytes;
    if (can_be_followed) add_place(index, entry);
  }

  void look_at_bitmap(uint64_t index, uint64_t entry) {
    if (!layout_.bat.has_parent) {
      if (!has_state(entry, BlockState::not_present))
        subject_of(index).add(
            Severity::warning, "vhdx-bitmap-without-parent", "State", 0, hex(entry),
            fmt::format("state {} of a disk without parent should be 0", bat_state_of(entry)));
      return;
    }
    if (is_allocated(entry)) partial_.count = 0;
    if (check_fault(index, entry) && is_allocated(entry)) add_place(index, entry);
  }

  // Returns whether the entry may be followed.
  bool check_fault(uint64_t index, uint64_t entry) {
    const auto fault = entry_fault(layout_, index, entry);
    if (!fault) return true;
    using Kind = EntryFault::Kind;
    const bool is_state = fault->kind == Kind::state;
    subject_of(index).add(Severity::corruption,
                          is_state                            ? "vhdx-bat-entry-state"
                          : fault->kind == Kind::in_structure ? "vhdx-block-in-structure"
                                                              : "vhdx-block-past-end",
                          is_state ? "State" : "FileOffsetMB", 0, hex(entry),
                          fmt::format("{:#x} {}", entry, fault->message));
    return false;
  }

  // An undefined or unmapped block may keep its place. A wrong one hurts nobody: it is never read.
  void keep(uint64_t index, uint64_t entry) {
    const uint64_t begin = bat_file_offset_of(entry);
    const uint64_t as_allocated = make_bat_entry(BlockState::fully_present, begin);
    if (entry_fault(layout_, index, as_allocated)) {
      subject_of(index).add(Severity::warning, "vhdx-kept-place", "FileOffsetMB", 0, hex(entry),
                            fmt::format("{:#x} names a place where no block can be", entry));
      return;
    }
    blocks_.are_all = blocks_.kept.add(begin, index) && blocks_.are_all;
  }

  void add_place(uint64_t index, uint64_t entry) {
    blocks_.are_all = blocks_.allocated.add(bat_file_offset_of(entry), index) && blocks_.are_all;
  }

  void add_partial(uint64_t block, uint64_t index) {
    if (partial_.count++ > 0) return;
    partial_.chunk = block / layout_.bat.chunk_ratio();
    partial_.first_index = index;
  }

  // Once the walk is past the chunk's bitmap entry, which is zero where it was not seen.
  void settle_partial_blocks(uint64_t index) {
    if (partial_.count == 0) return;
    const uint64_t bitmap_index = layout_.bat.bitmap_index(partial_.chunk);
    if (index <= bitmap_index) return;
    subject_of(bitmap_index)
        .add(Severity::corruption, "vhdx-bitmap-missing", "State", 0, "",
             fmt::format("is not present, but {} is partially present; blocks like it: {}",
                         entry_name(layout_.bat, partial_.first_index), partial_.count));
    partial_.count = 0;
  }

  const ImageLayout& layout_;
  Findings& findings_;
  disk::BlockUsage& usage_;
  BlocksToCheck blocks_;
  PartialBlocks partial_;
  uint64_t previous_end_ = 0;  // of the payload block before
};

// The entries that the BAT region has room for.
uint64_t check_room(const ImageToCheck& image, Findings& findings) {
  const uint64_t room = image.bat_bytes / sizeof(le64);
  const uint64_t count = image.layout.bat.entry_count();
  if (count > room) {
    Subject region(findings, "BAT region", image.layout.bat_offset);
    region.add(Severity::corruption, "vhdx-bat-too-short", "Length", 0, hex(image.bat_bytes),
               fmt::format("length {:#x} has room for {} entries, the disk has {}", image.bat_bytes,
                           room, count));
  }
  return std::min(count, room);
}

// Reads the entries [index, end) in pieces.
Async<void> look_at_entries(File& file, const ImageLayout& layout, uint64_t index, uint64_t end,
                            EntryCheck& check) {
  std::vector<le64> piece;
  for (; index < end; index += piece.size()) {
    piece.resize(std::min(piece_entries, end - index));
    const std::span<std::byte> buffer = std::as_writable_bytes(std::span(piece));
    CO_TRY(co_await file.read(layout.entry_offset(index), buffer));
    for (size_t i = 0; i < piece.size(); ++i)
      if (piece[i] != 0) check.look_at(index + i, piece[i]);
  }
  co_return Result<void>();
}

// A fixed disk keeps every block. [MS-VHDX] 2.5.1.1 lets readers accept others.
void check_fixed(const ImageToCheck& image, const disk::BlockUsage& usage, Findings& findings) {
  if (!image.is_fixed || usage.allocated >= usage.total) return;
  Subject region(findings, "BAT region", image.layout.bat_offset);
  region.add(Severity::note, "vhdx-fixed-block-absent", "State", 0,
             std::to_string(usage.total - usage.allocated),
             fmt::format("{} of {} blocks of a fixed disk have no place in the file",
                         usage.total - usage.allocated, usage.total));
}

}  // namespace

Async<BlocksToCheck> check_blocks(File& file, const ImageToCheck& image, Findings& findings,
                                  disk::BlockUsage& usage) {
  const ImageLayout& layout = image.layout;
  usage.total = layout.bat.payload_block_count();
  EntryCheck check(layout, findings, usage);
  const uint64_t count = check_room(image, findings);
  const uint64_t bat_end = layout.entry_offset(count);
  // Holes of the BAT are entries of zero: a huge empty disk is checked at once.
  for (uint64_t index = 0; index < count;) {
    CO_TRY_LET(const std::optional<async::FileRange> data,
               file.next_data(layout.entry_offset(index), bat_end));
    if (!data) break;
    const uint64_t begin = data->file_offset - layout.bat_offset;
    const uint64_t end = ceil_div(begin + data->length, sizeof(le64));
    index = begin / sizeof(le64);
    CO_TRY(co_await look_at_entries(file, layout, index, end, check));
    index = end;
  }
  check_fixed(image, usage, findings);
  co_return check.finish();
}

}  // namespace vhdkit::vhdx
