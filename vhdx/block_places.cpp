#include "vhdx/block_places.h"

#include <fmt/format.h>

#include <algorithm>

namespace vhdkit::vhdx {
namespace {

// [MS-VHDX] 2.5.1.1 and 2.5.1.2: the tables of states.
bool is_valid_state(const BatLayout& bat, uint64_t index, uint64_t state) {
  switch (BlockState(state)) {
    case BlockState::not_present:
    case BlockState::fully_present:
      return true;
    case BlockState::undefined:
    case BlockState::zero:
    case BlockState::unmapped:
      return !bat.is_bitmap_index(index);
    case BlockState::partially_present:
      return !bat.is_bitmap_index(index) && bat.has_parent;
  }
  return false;
}

// The structure that the range touches; null where there is none.
const Structure* touched(const std::vector<Structure>& structures, uint64_t begin,
                         uint64_t length) {
  const auto behind = std::ranges::upper_bound(structures, begin, {}, &Structure::file_offset);
  if (behind != structures.begin()) {
    const Structure& before = *std::prev(behind);
    if (begin - before.file_offset < before.length) return &before;
  }
  const bool reaches = behind != structures.end() && behind->file_offset - begin < length;
  return reaches ? &*behind : nullptr;
}

EntryFault state_fault(const BatLayout& bat, uint64_t index, uint64_t state) {
  const std::string_view owner = bat.is_bitmap_index(index) ? "a sector bitmap block's"
                                 : bat.has_parent           ? "a differencing disk's block's"
                                                            : "a fixed or dynamic disk's block's";
  return {.kind = EntryFault::Kind::state,
          .message = fmt::format("state {} is not {}", state, owner)};
}

}  // namespace

Result<ImageLayout> layout_of(const FileHeader& header, const RegionTable& regions,
                              const Metadata& metadata, uint64_t file_bytes) {
  ImageLayout layout;
  layout.bat = {.disk_bytes = metadata.disk_size_bytes,
                .block_bytes = metadata.block_size_bytes,
                .logical_sector_bytes = metadata.logical_sector_bytes,
                .has_parent = metadata.has_parent};
  layout.bat_offset = regions.bat.file_offset;
  layout.file_bytes = file_bytes;
  const uint64_t room = regions.bat.length / sizeof(le64);
  if (layout.bat.entry_count() > room)
    return fail(Errc::corrupt, fmt::format("BAT region at offset {:#x}: length {:#x} has room for "
                                           "{} entries, the disk has {}",
                                           regions.bat.file_offset, regions.bat.length, room,
                                           layout.bat.entry_count()));
  layout.structures = {
      {"the header section", 0, header_section_bytes},
      {"the log", header.log_offset, header.log_length},
      {"the BAT region", regions.bat.file_offset, regions.bat.length},
      {"the metadata region", regions.metadata.file_offset, regions.metadata.length}};
  for (const Region& region : regions.unknown)
    layout.structures.push_back(
        {"the region " + region.guid.to_string(), region.file_offset, region.length});
  std::erase_if(layout.structures, [](const Structure& one) { return one.length == 0; });
  std::ranges::sort(layout.structures, {}, &Structure::file_offset);
  return layout;
}

std::optional<EntryFault> entry_fault(const ImageLayout& layout, uint64_t index, uint64_t entry) {
  using Kind = EntryFault::Kind;
  if ((entry & bat_reserved_mask) != 0)
    return EntryFault{
        .kind = Kind::reserved_bits,
        .message = fmt::format("has reserved bits set ({:#x})", entry & bat_reserved_mask)};
  if (!is_valid_state(layout.bat, index, bat_state_of(entry)))
    return state_fault(layout.bat, index, bat_state_of(entry));
  if (!is_allocated(entry)) return std::nullopt;
  const uint64_t begin = bat_file_offset_of(entry);
  const uint64_t length = layout.block_length(index);
  if (const Structure* structure = touched(layout.structures, begin, length))
    return EntryFault{
        .kind = Kind::in_structure,
        .message = fmt::format("puts the block upon {} ({:#x} to {:#x})", structure->name,
                               structure->file_offset, structure->file_offset + structure->length)};
  if (!range_fits(begin, length, layout.file_bytes))
    return EntryFault{.kind = Kind::past_end,
                      .message = fmt::format("puts the block's {:#x} bytes past the end of the "
                                             "file ({:#x})",
                                             length, layout.file_bytes)};
  return std::nullopt;
}

std::string entry_text(const ImageLayout& layout, uint64_t index, uint64_t entry) {
  return fmt::format("{} at offset {:#x}: {:#x}", entry_name(layout.bat, index),
                     layout.entry_offset(index), entry);
}

bool BlockPlaces::add(uint64_t file_offset, uint64_t index) {
  if (places_.size() == capacity_) return false;
  places_.push_back({.file_offset = file_offset, .index = index});
  return true;
}

const std::vector<BlockPlaces::Place>& BlockPlaces::sorted() {
  std::ranges::sort(places_, [](const Place& a, const Place& b) {
    return a.file_offset != b.file_offset ? a.file_offset < b.file_offset : a.index < b.index;
  });
  return places_;
}

}  // namespace vhdkit::vhdx
