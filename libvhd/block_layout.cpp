#include "libvhd/block_layout.h"

#include <fmt/format.h>

#include <algorithm>

namespace vhdkit::libvhd {
namespace {

constexpr uint64_t addressable_bytes = (uint64_t{unused_bat_entry} + 1) * sector_bytes;

bool overlaps(const Structure& structure, uint64_t begin, uint64_t end) {
  return structure.file_offset < end && begin < structure.file_offset + structure.length;
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
  // What a BAT has beyond the disk's blocks is nobody's, and some writers put blocks there.
  const uint64_t table_bytes = std::min(layout.table_entries, layout.block_count()) * sizeof(be32);
  layout.structures = {{"the copy of the footer", 0, sizeof(Footer)},
                       {"the dynamic disk header", header_offset, sizeof(DynamicHeader)},
                       {"the BAT", header.table_offset, table_bytes}};
  for (const LocatedParent& one : located)
    if (one.path)
      layout.structures.push_back({fmt::format("the data of parent locator {}", one.locator.index),
                                   one.locator.data_offset, one.locator.data_length_bytes});
  return layout;
}

std::optional<EntryFault> entry_fault(const BlockLayout& layout, uint64_t block_index,
                                      uint32_t entry) {
  const uint64_t begin = uint64_t{entry} * sector_bytes;
  const uint64_t end = begin + layout.bitmap_bytes() + layout.data_bytes(block_index);
  for (const Structure& structure : layout.structures)
    if (overlaps(structure, begin, end))
      return EntryFault{.kind = EntryFault::Kind::in_metadata,
                        .message = fmt::format("sector {:#x} puts the block upon {} ({:#x} to "
                                               "{:#x})",
                                               entry, structure.name, structure.file_offset,
                                               structure.file_offset + structure.length)};
  if (end > layout.content_end)
    return EntryFault{.kind = EntryFault::Kind::past_end,
                      .message = fmt::format("sector {:#x} puts the block's end ({:#x}) past the "
                                             "end of the content ({:#x})",
                                             entry, end, layout.content_end)};
  return std::nullopt;
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
  return uint64_t{place.sector} * sector_bytes + layout.bitmap_bytes() +
         layout.data_bytes(place.block_index);
}

}  // namespace vhdkit::libvhd
