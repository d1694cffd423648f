#include "libvhd/block_layout.h"

#include <fmt/format.h>

#include <algorithm>

namespace vhdkit::libvhd {
namespace {

constexpr uint64_t addressable_bytes = (uint64_t{unused_bat_entry} + 1) * sector_bytes;

bool overlaps(const Structure& structure, uint64_t begin, uint64_t end) {
  return structure.file_offset < end && begin < structure.file_offset + structure.length;
}

Structure structure_of(const ParentLocator& locator) {
  const uint64_t most = max_locator_bytes;
  const uint64_t room = std::min(locator_room_bytes(locator), most);
  return {.name = fmt::format("the data of parent locator {}", locator.index),
          .file_offset = locator.data_offset,
          .length = locator.data_length_bytes,
          .room = std::max<uint64_t>(room, locator.data_length_bytes),
          .locator_index = locator.index};
}

}  // namespace

uint64_t BlockLayout::data_bytes(uint64_t block_index) const {
  return std::min(block_bytes, disk_bytes - block_index * block_bytes);
}

BlockLayout layout_of(uint64_t disk_bytes, uint64_t header_offset, const DynamicDiskHeader& header,
                      const std::vector<LocatedParent>& located, uint64_t content_end) {
  BlockLayout layout;
  layout.disk_bytes = disk_bytes;
  layout.block_bytes = header.block_size_bytes;
  layout.table_offset = header.table_offset;
  layout.table_entries = std::min<uint64_t>(header.max_table_entries,
                                            (content_end - header.table_offset) / sizeof(be32));
  layout.content_end = content_end;
  // What a BAT has beyond the disk's blocks is nobody's, and a block there does no harm.
  const uint64_t table_bytes = std::min(layout.table_entries, layout.block_count()) * sizeof(be32);
  const uint64_t table_room = align_up(layout.table_entries * sizeof(be32), sector_bytes);
  layout.structures = {
      {.name = "the copy of the footer", .file_offset = 0, .length = 512, .room = 512},
      {.name = "the dynamic disk header",
       .file_offset = header_offset,
       .length = sizeof(DynamicHeader),
       .room = sizeof(DynamicHeader)},
      {.name = "the BAT",
       .file_offset = header.table_offset,
       .length = table_bytes,
       .room = table_room}};
  for (const LocatedParent& one : located)
    if (one.path) layout.structures.push_back(structure_of(one.locator));
  return layout;
}

std::optional<EntryFault> entry_fault(const BlockLayout& layout, uint64_t block_index,
                                      uint32_t entry) {
  const uint64_t begin = begin_of(entry);
  const uint64_t end = begin + layout.bitmap_bytes() + layout.data_bytes(block_index);
  for (size_t i = 0; i < layout.structures.size(); ++i)
    if (overlaps(layout.structures[i], begin, end))
      return EntryFault{.kind = EntryFault::Kind::in_metadata, .structure_index = i};
  if (end > layout.content_end) return EntryFault{.kind = EntryFault::Kind::past_end};
  return std::nullopt;
}

std::string fault_text(const BlockLayout& layout, uint64_t block_index, uint32_t entry,
                       const EntryFault& fault) {
  if (fault.kind == EntryFault::Kind::past_end)
    return fmt::format(
        "sector {:#x} puts the block's end ({:#x}) past the end of the content "
        "({:#x})",
        entry, begin_of(entry) + layout.bitmap_bytes() + layout.data_bytes(block_index),
        layout.content_end);
  const Structure& structure = layout.structures[fault.structure_index];
  return fmt::format("sector {:#x} puts the block upon {} ({:#x} to {:#x})", entry, structure.name,
                     structure.file_offset, structure.file_offset + structure.length);
}

std::string entry_name(const BlockLayout& layout, uint64_t block_index) {
  return fmt::format("BAT entry {} at offset {:#x}", block_index,
                     layout.table_offset + block_index * sizeof(be32));
}

BlockPlaces::BlockPlaces(const BlockLayout& layout)
    : capacity_(std::min(layout.content_end, addressable_bytes) / layout.block_bytes + 2) {}

bool BlockPlaces::add(uint64_t block_index, uint32_t sector) {
  if (places_.size() == capacity_) return false;
  places_.push_back({.sector = sector, .block_index = uint32_t(block_index)});
  return true;
}

const std::vector<BlockPlaces::Place>& BlockPlaces::sorted() {
  std::ranges::sort(places_, [](const Place& a, const Place& b) {
    return a.sector != b.sector ? a.sector < b.sector : a.block_index < b.block_index;
  });
  return places_;
}

uint64_t end_of_place(const BlockLayout& layout, const BlockPlaces::Place& place) {
  return begin_of(place.sector) + layout.bitmap_bytes() + layout.data_bytes(place.block_index);
}

}  // namespace vhdkit::libvhd
