#include "libvhd/edit.h"

#include <algorithm>
#include <cassert>
#include <optional>
#include <tuple>
#include <utility>

#include "libvhd/dynamic_header.h"
#include "libvhd/footer.h"
#include "libvhd/table_reader.h"
#include "libvhd/used_space.h"
#include "support/utf16.h"

namespace vhdkit::libvhd {
namespace {

// The tail first: as long as it is whole, it counts.
Async<void> write_footers(File& file, uint64_t tail_offset, const HardDiskFooter& footer) {
  CO_TRY(co_await write_footer(file, tail_offset, footer));
  if (footer.type == DiskType::fixed) co_return Result<void>();
  co_return co_await write_footer(file, 0, footer);
}

struct LocatorData {
  uint32_t platform_code;
  std::vector<std::byte> bytes;
  uint64_t room_bytes;  // whole sectors; as many as it needs, or as the room has that it lies in
  uint64_t file_offset = 0;
};

std::vector<LocatorData> locators_of(const ParentLink& parent) {
  std::vector<LocatorData> locators;
  const std::pair<uint32_t, const std::string*> paths[] = {{platform_w2ru, &parent.relative_path},
                                                           {platform_w2ku, &parent.absolute_path}};
  for (const auto& [platform_code, path] : paths) {
    if (path->empty()) continue;
    std::vector<std::byte> bytes = utf8_to_utf16(*path, ByteOrder::little);
    const uint64_t room_bytes = align_up(bytes.size(), sector_bytes);
    locators.push_back(
        {.platform_code = platform_code, .bytes = std::move(bytes), .room_bytes = room_bytes});
  }
  return locators;
}

DynamicHeader header_with(DynamicDiskHeader header, const std::vector<LocatorData>& locators) {
  header.parent_locators.clear();
  for (const LocatorData& locator : locators)
    header.parent_locators.push_back({.index = uint32_t(header.parent_locators.size()),
                                      .platform_code = locator.platform_code,
                                      .data_space = uint32_t(locator.room_bytes),
                                      .data_length_bytes = uint32_t(locator.bytes.size()),
                                      .data_offset = locator.file_offset});
  return build_dynamic_header(header);
}

// Whole sectors that the locator's data has.
UsedRange room_of(const ParentLocator& locator) {
  const uint64_t most = max_locator_bytes;
  const uint64_t room = std::min(locator_room_bytes(locator), most);
  return {.begin = align_up(locator.data_offset, sector_bytes),
          .end = align_down(locator.data_offset + room, sector_bytes)};
}

bool overlap(const UsedRange& a, const UsedRange& b) { return a.begin < b.end && b.begin < a.end; }

bool is_apart(const UsedRange& range, const std::vector<UsedRange>& used) {
  return std::ranges::none_of(used, [&range](const UsedRange& one) { return overlap(one, range); });
}

// Structures and the batmap.
Async<std::vector<UsedRange>> used_by_tables(File& file, const BlockLayout& layout) {
  std::vector<UsedRange> used = used_by_structures(layout);
  CO_TRY_LET(const std::vector<UsedRange> batmap, co_await used_by_batmap(file, layout));
  used.insert(used.end(), batmap.begin(), batmap.end());
  co_return std::move(used);
}

// Those that no entry's place touches, one behind the disk's blocks neither. The entries may be
// very many, and name anything: nothing of them is kept.
Async<std::vector<UsedRange>> without_blocks(File& file, const BlockLayout& layout,
                                             std::vector<UsedRange> rooms) {
  TableReader table(file, layout);
  std::span<const be32> entries;
  const uint64_t place_bytes = layout.bitmap_bytes() + layout.block_bytes;
  while (!rooms.empty()) {
    CO_TRY_LET(entries, co_await table.next());
    if (entries.empty()) break;
    for (const uint32_t entry : entries) {
      if (entry == unused_bat_entry) continue;
      const UsedRange place{.begin = begin_of(entry), .end = begin_of(entry) + place_bytes};
      std::erase_if(rooms, [&place](const UsedRange& room) { return overlap(room, place); });
    }
  }
  co_return std::move(rooms);
}

// Where the old locators have their data, as far as it is theirs alone.
Async<std::vector<UsedRange>> free_rooms(File& file, const FoundFooter& found,
                                         const DynamicDiskHeader& header) {
  CO_TRY_LET(const std::vector<LocatedParent> located,
             co_await read_parent_locators(file, header, found.content_end));
  const BlockLayout layout =
      layout_of(found.footer.size_bytes(), found.footer.data_offset, header, {}, found.content_end);
  std::vector<UsedRange> rooms;
  if (layout.table_entries < layout.block_count()) co_return std::move(rooms);
  CO_TRY_LET(const std::vector<UsedRange> used, co_await used_by_tables(file, layout));
  for (const LocatedParent& one : located) {
    const UsedRange room = room_of(one.locator);
    // One of less than a sector has no whole one.
    if (one.path && room.begin < room.end && room.end <= found.content_end &&
        is_apart(room, used) && is_apart(room, rooms))
      rooms.push_back(room);
  }
  co_return co_await without_blocks(file, layout, std::move(rooms));
}

// Gives each a room of its own, the smallest that suffices, and all of it: so the next that is
// longer has it again. False: there are none that suffice.
bool fit(std::vector<LocatorData>& locators, std::vector<UsedRange> rooms) {
  const auto length = [](const UsedRange& room) { return room.end - room.begin; };
  std::ranges::sort(rooms, {}, length);
  for (LocatorData& locator : locators) {
    const auto room = std::ranges::lower_bound(rooms, locator.room_bytes, {}, length);
    if (room == rooms.end()) return false;
    locator.file_offset = room->begin;
    locator.room_bytes = length(*room);
    rooms.erase(room);
  }
  return true;
}

// The header, the locators and the footer of a child that names another parent.
struct NewLink {
  // Behind the old end.
  DynamicHeader header = {};
  uint64_t header_offset = 0;
  std::vector<LocatorData> locators = {};
  uint64_t tail_offset = 0;  // of the footer
  // In the places of the old ones, where those suffice: else only the header comes there.
  DynamicHeader home_header = {};
  std::vector<LocatorData> home_locators = {};
  std::optional<uint64_t> home_tail_offset = {};
};

// The old end stays whole below the new one.
Async<NewLink> plan_new_link(File& file, const FoundFooter& found, const ParentLink& parent) {
  CO_TRY_LET(DynamicDiskHeader header,
             co_await read_dynamic_header(file, found.footer.data_offset, found.content_end));
  CO_TRY_LET(std::vector<UsedRange> rooms, co_await free_rooms(file, found, header));
  header.parent_unique_id = parent.unique_id;
  header.parent_time_stamp = parent.time_stamp;
  header.parent_name = parent.name;
  const uint64_t old_end = align_up(found.content_end, sector_bytes);
  NewLink link;
  link.header_offset = old_end + sizeof(Footer);
  link.tail_offset = link.header_offset + sizeof(DynamicHeader);
  link.locators = locators_of(parent);
  link.home_locators = link.locators;
  for (LocatorData& locator : link.locators) {
    locator.file_offset = link.tail_offset;
    link.tail_offset += locator.room_bytes;
  }
  link.header = header_with(header, link.locators);
  if (fit(link.home_locators, std::move(rooms))) {
    link.home_header = header_with(header, link.home_locators);
    link.home_tail_offset = old_end;
  } else {
    link.home_header = link.header;
    link.home_locators.clear();
  }
  co_return std::move(link);
}

Async<void> write_header(File& file, uint64_t file_offset, const DynamicHeader& header,
                         const std::vector<LocatorData>& locators) {
  const auto header_bytes = bytes_of(header);
  CO_TRY(co_await file.write(file_offset, header_bytes));
  for (const LocatorData& locator : locators) {
    const std::span<const std::byte> bytes(locator.bytes);
    CO_TRY(co_await file.write(locator.file_offset, bytes));
  }
  co_return co_await file.flush();
}

// The old footer first, so that the file has one at its end all the time; the new one last.
Async<void> write_new_end(File& file, HardDiskFooter footer, const NewLink& link) {
  CO_TRY(co_await write_footer(file, link.tail_offset, footer));
  CO_TRY(co_await write_header(file, link.header_offset, link.header, link.locators));
  footer.data_offset = link.header_offset;
  co_return co_await write_footer(file, link.tail_offset, footer);
}

// To the places of the old ones, which no footer names meanwhile.
Async<void> bring_home(File& file, HardDiskFooter footer, const NewLink& link) {
  const uint64_t own_place = std::exchange(footer.data_offset, link.header_offset);
  CO_TRY(co_await write_footer(file, 0, footer));
  CO_TRY(co_await write_header(file, own_place, link.home_header, link.home_locators));
  footer.data_offset = own_place;
  CO_TRY(co_await write_footers(file, link.tail_offset, footer));
  if (!link.home_tail_offset) co_return Result<void>();
  CO_TRY(co_await write_footer(file, *link.home_tail_offset, footer));
  CO_TRY(file.resize(*link.home_tail_offset + sizeof(Footer)));
  co_return co_await file.flush();
}

}  // namespace

Async<void> set_unique_id(File& file, const Guid& unique_id) {
  CO_TRY_LET(FoundFooter found, co_await find_footer(file));
  CO_TRY(co_await make_copy_equal(file, found));
  found.footer.unique_id = unique_id;
  co_return co_await write_footers(file, found.content_end, found.footer);
}

Async<void> change_parent(File& file, const ParentLink& parent) {
  CO_TRY_LET(const FoundFooter found, co_await find_footer(file));
  assert(found.footer.type == DiskType::differencing);
  if (parent.relative_path.empty() && parent.absolute_path.empty())
    co_return fail(Errc::invalid_argument, file.name() + ": the parent has no path");
  CO_TRY_LET(const NewLink link, co_await plan_new_link(file, found, parent));
  const uint64_t old_bytes = file.size_bytes();
  CO_TRY(co_await make_copy_equal(file, found));
  auto written = co_await write_new_end(file, found.footer, link);
  if (!written) {
    std::ignore = file.resize(old_bytes);
    co_return written;
  }
  co_return co_await bring_home(file, found.footer, link);
}

}  // namespace vhdkit::libvhd
