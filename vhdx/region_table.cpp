#include "vhdx/region_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "support/crc32c.h"

namespace vhdkit::vhdx {
namespace {

// A part of the file that has an owner, for the comparison of all with all.
struct Place {
  std::string name;
  uint64_t file_offset;
  uint64_t length;
};

std::string entry_where(uint64_t table_offset, size_t index) {
  return fmt::format("region table entry {} at offset {:#x}", index,
                     table_offset + sizeof(RegionTableHeader) + index * sizeof(RegionTableEntry));
}

uint32_t table_checksum(std::span<const std::byte> table) {
  return crc32c_without(table, offsetof(RegionTableHeader, checksum));
}

// Why the copy is not valid; empty where it is.
std::string table_damage(std::span<const std::byte> table) {
  const auto raw = *load<RegionTableHeader>(table);
  if (raw.signature != region_table_signature)
    return fmt::format("signature {:#x} is not \"regi\"", uint32_t(raw.signature));
  if (raw.checksum != table_checksum(table))
    return fmt::format("checksum {:#x} should be {:#x}", uint32_t(raw.checksum),
                       table_checksum(table));
  if (raw.entry_count > max_region_count)
    return fmt::format("entry count {} is above {}", uint32_t(raw.entry_count), max_region_count);
  return {};
}

struct RawTable {
  std::vector<std::byte> bytes;
  std::string damage;
};

Async<RawTable> read_copy(File& file, uint64_t table_offset) {
  RawTable copy;
  if (!range_fits(table_offset, region_table_bytes, file.size_bytes())) {
    copy.damage = fmt::format("cut off by the end of the file ({:#x})", file.size_bytes());
    co_return copy;
  }
  copy.bytes.resize(region_table_bytes);
  const std::span<std::byte> buffer(copy.bytes);
  CO_TRY(co_await file.read(table_offset, buffer));
  copy.damage = table_damage(buffer);
  co_return copy;
}

Result<void> check_place(const Region& region, uint64_t file_bytes) {
  const auto wrong = [&region](std::string_view field, uint64_t value, std::string_view what) {
    return fail(Errc::corrupt,
                fmt::format("{}: {} {:#x} {}", region_name(region.guid), field, value, what));
  };
  if (!is_aligned(region.file_offset, alignment_bytes))
    return wrong("file offset", region.file_offset, "is not a multiple of 1 MiB");
  if (!is_aligned(region.length, alignment_bytes))
    return wrong("length", region.length, "is not a multiple of 1 MiB");
  if (region.file_offset < header_section_bytes)
    return wrong("file offset", region.file_offset, "lies in the header section");
  if (!range_fits(region.file_offset, region.length, file_bytes))
    return wrong("file offset", region.file_offset,
                 fmt::format("with length {:#x} runs past the end of the file ({:#x})",
                             region.length, file_bytes));
  return {};
}

Region region_values(const RegionTableEntry& raw) {
  return {.guid = Guid::from_stored(raw.guid),
          .file_offset = raw.file_offset,
          .length = raw.length,
          .required = (raw.flags & region_required) != 0};
}

// Every entry of a valid copy, each in a place that it may have.
Result<std::vector<Region>> parse_entries(std::span<const std::byte> table, uint64_t table_offset,
                                          uint64_t file_bytes) {
  const uint32_t count = load<RegionTableHeader>(table)->entry_count;
  std::vector<Region> regions;
  for (size_t i = 0; i < count; ++i) {
    const Region region = region_values(
        *load<RegionTableEntry>(table, sizeof(RegionTableHeader) + i * sizeof(RegionTableEntry)));
    const std::string where = entry_where(table_offset, i);
    if (region.required && !is_known_region(region.guid))
      return fail(Errc::unsupported, fmt::format("{}: {} is required and not known here", where,
                                                 region_name(region.guid)));
    TRY(with_context(check_place(region, file_bytes), where));
    regions.push_back(region);
  }
  return regions;
}

Result<void> check_unique(const std::vector<Region>& regions) {
  std::vector<Guid> guids;
  for (const Region& region : regions) guids.push_back(region.guid);
  std::ranges::sort(guids);
  const auto twice = std::ranges::adjacent_find(guids);
  if (twice == guids.end()) return {};
  return fail(Errc::corrupt, fmt::format("two entries for the {}", region_name(*twice)));
}

Result<void> check_apart(const std::vector<Region>& regions, const FileHeader& header) {
  std::vector<Place> places = {
      {.name = "log", .file_offset = header.log_offset, .length = header.log_length}};
  for (const Region& region : regions)
    places.push_back({.name = region_name(region.guid),
                      .file_offset = region.file_offset,
                      .length = region.length});
  std::erase_if(places, [](const Place& place) { return place.length == 0; });
  std::ranges::sort(places, {}, [](const Place& place) {
    return std::pair(place.file_offset, std::string_view(place.name));
  });
  for (size_t i = 1; i < places.size(); ++i) {
    const Place& before = places[i - 1];
    if (places[i].file_offset < before.file_offset + before.length)
      return fail(Errc::corrupt,
                  fmt::format("the {} at {:#x} lies upon the {} ({:#x} to {:#x})", places[i].name,
                              places[i].file_offset, before.name, before.file_offset,
                              before.file_offset + before.length));
  }
  return {};
}

Result<Region> known_region(const std::vector<Region>& regions, const Guid& guid) {
  const auto found = std::ranges::find(regions, guid, &Region::guid);
  if (found == regions.end())
    return fail(Errc::corrupt, fmt::format("no entry for the {}", region_name(guid)));
  return *found;
}

Result<void> sort_out(const std::vector<Region>& regions, const FileHeader& header,
                      RegionTable& table) {
  TRY(check_unique(regions));
  TRY(check_apart(regions, header));
  TRY_LET(table.bat, known_region(regions, bat_region));
  TRY_LET(table.metadata, known_region(regions, metadata_region));
  for (const Region& region : regions)
    if (!is_known_region(region.guid)) table.unknown.push_back(region);
  return {};
}

}  // namespace

std::string region_name(const Guid& guid) {
  if (guid == bat_region) return "BAT region";
  if (guid == metadata_region) return "metadata region";
  return fmt::format("region {}", guid.to_string());
}

bool is_known_region(const Guid& guid) { return guid == bat_region || guid == metadata_region; }

Async<RegionTable> read_region_table(File& file, const FileHeader& header) {
  RegionTable table;
  std::optional<RawTable> used;
  for (unsigned i = 0; i < table.damage.size(); ++i) {
    CO_TRY_LET(RawTable copy, co_await read_copy(file, region_table_offsets[i]));
    table.damage[i] = copy.damage;
    if (used || !copy.damage.empty()) continue;
    table.used_index = i;
    used = std::move(copy);
  }
  if (!used)
    co_return fail(Errc::corrupt, fmt::format("{}: region table at offset {:#x}: {}; copy at "
                                              "offset {:#x}: {}",
                                              file.name(), region_table_offsets[0], table.damage[0],
                                              region_table_offsets[1], table.damage[1]));
  const uint64_t table_offset = region_table_offsets[table.used_index];
  CO_TRY_LET(
      const std::vector<Region> regions,
      with_context(parse_entries(used->bytes, table_offset, file.size_bytes()), file.name()));
  CO_TRY(with_context(sort_out(regions, header, table),
                      fmt::format("{}: region table at offset {:#x}", file.name(), table_offset)));
  co_return table;
}

std::vector<std::byte> build_region_table(const Region& bat, const Region& metadata) {
  std::vector<std::byte> table(region_table_bytes);
  size_t at = 0;
  const auto put = [&](const auto& value) {
    std::ranges::copy(bytes_of(value), table.begin() + at);
    at += sizeof value;
  };
  RegionTableHeader raw{};
  raw.signature = region_table_signature;
  raw.entry_count = 2;
  put(raw);
  for (const Region& region : {bat, metadata})
    put(RegionTableEntry{.guid = region.guid.stored(),
                         .file_offset = region.file_offset,
                         .length = uint32_t(region.length),
                         .flags = region.required ? region_required : 0});
  raw.checksum = table_checksum(table);
  std::ranges::copy(bytes_of(raw), table.begin());
  return table;
}

void move_region(std::span<std::byte> table, const Region& region) {
  auto header = *load<RegionTableHeader>(table);
  for (uint32_t i = 0; i < header.entry_count; ++i) {
    const size_t at = sizeof header + i * sizeof(RegionTableEntry);
    auto entry = *load<RegionTableEntry>(table, at);
    if (Guid::from_stored(entry.guid) != region.guid) continue;
    entry.file_offset = region.file_offset;
    entry.length = uint32_t(region.length);
    std::ranges::copy(bytes_of(entry), table.begin() + ptrdiff_t(at));
  }
  header.checksum = table_checksum(table);
  std::ranges::copy(bytes_of(header), table.begin());
}

}  // namespace vhdkit::vhdx
