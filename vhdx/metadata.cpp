#include "vhdx/metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

namespace vhdkit::vhdx {
namespace {

MetadataItem item_values(const MetadataTableEntry& raw) {
  return {.id = Guid::from_stored(raw.item_id),
          .offset = raw.offset,
          .length = raw.length,
          .flags = raw.flags};
}

// [MS-VHDX] 2.6.1.2. An empty item lies nowhere.
Result<void> check_item(const MetadataItem& item, uint64_t region_bytes) {
  if (item.is_required() && !is_known_item(item))
    return fail(Errc::unsupported, "is required and not known here");
  if (item.length > max_metadata_item_bytes)
    return fail(Errc::corrupt,
                fmt::format("length {:#x} is above {:#x}", item.length, max_metadata_item_bytes));
  if (item.length == 0) return {};
  if (item.offset < metadata_table_bytes)
    return fail(Errc::corrupt, fmt::format("offset {:#x} lies in the table", item.offset));
  if (!range_fits(item.offset, item.length, region_bytes))
    return fail(Errc::corrupt, fmt::format("[{:#x}, +{:#x}) runs past the end of the region "
                                           "({:#x})",
                                           item.offset, item.length, region_bytes));
  return {};
}

Result<std::vector<MetadataItem>> parse_table(std::span<const std::byte> table,
                                              uint64_t region_bytes) {
  const auto header = *load<MetadataTableHeader>(table);
  if (header.signature != metadata_signature)
    return fail(Errc::corrupt,
                fmt::format("signature {:#x} is not \"metadata\"", uint64_t(header.signature)));
  if (header.entry_count > max_metadata_count)
    return fail(Errc::corrupt, fmt::format("entry count {} is above {}",
                                           uint16_t(header.entry_count), max_metadata_count));
  std::vector<MetadataItem> items;
  for (size_t i = 0; i < header.entry_count; ++i) {
    const size_t at = sizeof(MetadataTableHeader) + i * sizeof(MetadataTableEntry);
    const MetadataItem item = item_values(*load<MetadataTableEntry>(table, at));
    TRY(with_context(
        check_item(item, region_bytes),
        fmt::format("entry {} at region offset {:#x}: {}", i, at, item_name(item.id))));
    items.push_back(item);
  }
  return items;
}

Result<void> check_unique(const std::vector<MetadataItem>& items) {
  std::vector<std::pair<Guid, bool>> keys;
  for (const MetadataItem& item : items) keys.emplace_back(item.id, item.is_user());
  std::ranges::sort(keys);
  const auto twice = std::ranges::adjacent_find(keys);
  if (twice == keys.end()) return {};
  return fail(Errc::corrupt, fmt::format("two entries for {}", item_name(twice->first)));
}

Result<void> check_apart(std::vector<MetadataItem> items) {
  std::erase_if(items, [](const MetadataItem& item) { return item.length == 0; });
  std::ranges::sort(items, {},
                    [](const MetadataItem& item) { return std::tuple(item.offset, item.id); });
  for (size_t i = 1; i < items.size(); ++i) {
    const MetadataItem& before = items[i - 1];
    if (items[i].offset < before.offset + before.length)
      return fail(Errc::corrupt,
                  fmt::format("{} at region offset {:#x} lies upon {} ({:#x} to "
                              "{:#x})",
                              item_name(items[i].id), items[i].offset, item_name(before.id),
                              before.offset, before.offset + before.length));
  }
  return {};
}

Result<void> check_table(const std::vector<MetadataItem>& items) {
  const auto user_count = std::ranges::count_if(items, &MetadataItem::is_user);
  if (user_count > max_user_metadata_count)
    return fail(Errc::corrupt,
                fmt::format("{} user items are above {}", user_count, max_user_metadata_count));
  TRY(check_unique(items));
  return check_apart(items);
}

// The items of one file's metadata region.
class ItemReader {
 public:
  ItemReader(File& file, const Region& region, std::vector<MetadataItem> items)
      : file_(file), region_(region), items_(std::move(items)) {}

  const std::vector<MetadataItem>& items() const { return items_; }

  std::string where(const Guid& id) const {
    const MetadataItem* item = find(id);
    const uint64_t in_region = item == nullptr ? 0 : item->offset;
    return fmt::format("{}: {} at offset {:#x}", file_.name(), item_name(id),
                       region_.file_offset + in_region);
  }

  // The whole item.
  Async<std::vector<std::byte>> read(Guid id) {
    const MetadataItem* item = find(id);
    if (item == nullptr)
      co_return fail(Errc::corrupt, fmt::format("{}: metadata region at offset {:#x}: no entry for "
                                                "{}",
                                                file_.name(), region_.file_offset, item_name(id)));
    std::vector<std::byte> bytes(item->length);
    const std::span<std::byte> buffer(bytes);
    CO_TRY(co_await file_.read(region_.file_offset + item->offset, buffer));
    co_return bytes;
  }

  // An item of a fixed size. One that goes on behind it is taken for what it begins with.
  template <OnDisk T>
  Async<T> read_value(Guid id) {
    CO_TRY_LET(const std::vector<std::byte> bytes, co_await read(id));
    const std::optional<T> value = load<T>(bytes);
    if (!value)
      co_return fail(Errc::corrupt,
                     fmt::format("{}: length {} is below {}", where(id), bytes.size(), sizeof(T)));
    co_return *value;
  }

 private:
  const MetadataItem* find(const Guid& id) const {
    const auto found = std::ranges::find_if(
        items_, [&id](const MetadataItem& item) { return item.id == id && is_known_item(item); });
    return found == items_.end() ? nullptr : &*found;
  }

  File& file_;
  Region region_;
  std::vector<MetadataItem> items_;
};

Result<void> check_block_size(uint32_t bytes, std::string_view where) {
  if (is_power_of_two(bytes) && bytes >= min_block_bytes && bytes <= max_block_bytes) return {};
  return fail(Errc::corrupt,
              fmt::format("{}: block size {:#x} is no power of two from 1 MiB to 256 "
                          "MiB",
                          where, bytes));
}

Result<void> check_sector_size(uint32_t bytes, std::string_view where) {
  if (bytes == 512 || bytes == 4096) return {};
  return fail(Errc::corrupt, fmt::format("{}: {} is neither 512 nor 4096", where, bytes));
}

Result<void> check_disk_size(const Metadata& metadata, std::string_view where) {
  const uint64_t size = metadata.disk_size_bytes;
  if (size > max_disk_bytes)
    return fail(Errc::corrupt, fmt::format("{}: {:#x} is above 64 TiB", where, size));
  if (!is_aligned(size, metadata.logical_sector_bytes))
    return fail(Errc::corrupt, fmt::format("{}: {:#x} is not a multiple of the logical sector size "
                                           "{}",
                                           where, size, metadata.logical_sector_bytes));
  return {};
}

Async<void> read_values(ItemReader& reader, Metadata& metadata) {
  CO_TRY_LET(const FileParameters parameters,
             co_await reader.read_value<FileParameters>(file_parameters_item));
  metadata.block_size_bytes = parameters.block_size;
  metadata.leave_blocks_allocated = (parameters.flags & leave_blocks_allocated) != 0;
  metadata.has_parent = (parameters.flags & has_parent) != 0;
  CO_TRY(check_block_size(metadata.block_size_bytes, reader.where(file_parameters_item)));
  CO_TRY_LET(metadata.logical_sector_bytes,
             co_await reader.read_value<le32>(logical_sector_size_item));
  CO_TRY(check_sector_size(metadata.logical_sector_bytes, reader.where(logical_sector_size_item)));
  CO_TRY_LET(metadata.physical_sector_bytes,
             co_await reader.read_value<le32>(physical_sector_size_item));
  CO_TRY(
      check_sector_size(metadata.physical_sector_bytes, reader.where(physical_sector_size_item)));
  CO_TRY_LET(metadata.disk_size_bytes, co_await reader.read_value<le64>(virtual_disk_size_item));
  CO_TRY(check_disk_size(metadata, reader.where(virtual_disk_size_item)));
  CO_TRY_LET(const StoredGuid disk_id,
             co_await reader.read_value<StoredGuid>(virtual_disk_id_item));
  metadata.disk_id = Guid::from_stored(disk_id);
  co_return Result<void>();
}

Async<std::vector<MetadataItem>> read_items(File& file, const Region& region) {
  const std::string where =
      fmt::format("{}: metadata region at offset {:#x}", file.name(), region.file_offset);
  if (region.length < metadata_table_bytes)
    co_return fail(Errc::corrupt, fmt::format("{}: length {:#x} is below the table's {:#x}", where,
                                              region.length, metadata_table_bytes));
  std::vector<std::byte> table(metadata_table_bytes);
  const std::span<std::byte> buffer(table);
  CO_TRY(co_await file.read(region.file_offset, buffer));
  CO_TRY_LET(std::vector<MetadataItem> items,
             with_context(parse_table(table, region.length), where));
  CO_TRY(with_context(check_table(items), where));
  co_return items;
}

// An item to be written.
struct BuiltItem {
  Guid id;
  uint32_t flags;
  std::vector<std::byte> bytes;
};

template <OnDisk T>
std::vector<std::byte> copy_of(const T& value) {
  const auto bytes = bytes_of(value);
  return {bytes.begin(), bytes.end()};
}

// [MS-VHDX] 2.6.2, the table of known items.
std::vector<BuiltItem> built_items(const Metadata& metadata) {
  constexpr uint32_t of_file = metadata_is_required;
  constexpr uint32_t of_disk = metadata_is_required | metadata_is_virtual_disk;
  const uint32_t parameter_flags = (metadata.leave_blocks_allocated ? leave_blocks_allocated : 0) |
                                   (metadata.has_parent ? has_parent : 0);
  std::vector<BuiltItem> items = {
      {file_parameters_item, of_file,
       copy_of(FileParameters{.block_size = metadata.block_size_bytes, .flags = parameter_flags})},
      {virtual_disk_size_item, of_disk, copy_of(le64(metadata.disk_size_bytes))},
      {virtual_disk_id_item, of_disk, copy_of(metadata.disk_id.stored())},
      {logical_sector_size_item, of_disk, copy_of(le32(metadata.logical_sector_bytes))},
      {physical_sector_size_item, of_disk, copy_of(le32(metadata.physical_sector_bytes))}};
  if (metadata.parent_locator)
    items.push_back({parent_locator_item, of_file, build_parent_locator(*metadata.parent_locator)});
  return items;
}

}  // namespace

std::string item_name(const Guid& id) {
  if (id == file_parameters_item) return "file parameters";
  if (id == virtual_disk_size_item) return "virtual disk size";
  if (id == virtual_disk_id_item) return "virtual disk ID";
  if (id == logical_sector_size_item) return "logical sector size";
  if (id == physical_sector_size_item) return "physical sector size";
  if (id == parent_locator_item) return "parent locator";
  return fmt::format("item {}", id.to_string());
}

bool is_known_item(const MetadataItem& item) {
  constexpr Guid known[] = {file_parameters_item,      virtual_disk_size_item,
                            virtual_disk_id_item,      logical_sector_size_item,
                            physical_sector_size_item, parent_locator_item};
  return !item.is_user() && std::ranges::find(known, item.id) != std::end(known);
}

Async<Metadata> read_metadata(File& file, const Region& region) {
  CO_TRY_LET(std::vector<MetadataItem> items, co_await read_items(file, region));
  ItemReader reader(file, region, std::move(items));
  Metadata metadata;
  CO_TRY(co_await read_values(reader, metadata));
  if (metadata.has_parent) {
    CO_TRY_LET(const std::vector<std::byte> item, co_await reader.read(parent_locator_item));
    CO_TRY_LET(metadata.parent_locator,
               parse_parent_locator(item, reader.where(parent_locator_item)));
  }
  for (const MetadataItem& item : reader.items())
    if (!is_known_item(item)) metadata.unknown.push_back(item);
  co_return metadata;
}

std::vector<std::byte> build_metadata(const Metadata& metadata) {
  const std::vector<BuiltItem> items = built_items(metadata);
  std::vector<std::byte> region(metadata_region_bytes);
  size_t table_at = 0;
  const auto put = [&region](size_t at, std::span<const std::byte> bytes) {
    assert(range_fits(at, bytes.size(), region.size()));
    std::ranges::copy(bytes, region.begin() + at);
    return at + bytes.size();
  };
  MetadataTableHeader header{};
  header.signature = metadata_signature;
  header.entry_count = uint16_t(items.size());
  table_at = put(table_at, bytes_of(header));
  size_t item_at = metadata_table_bytes;
  for (const BuiltItem& item : items) {
    table_at = put(table_at, bytes_of(MetadataTableEntry{.item_id = item.id.stored(),
                                                         .offset = uint32_t(item_at),
                                                         .length = uint32_t(item.bytes.size()),
                                                         .flags = item.flags,
                                                         .reserved2 = 0}));
    item_at = put(item_at, item.bytes);
  }
  return region;
}

uint64_t metadata_used_bytes(const Metadata& metadata) {
  uint64_t used = metadata_table_bytes;
  for (const BuiltItem& item : built_items(metadata)) used += item.bytes.size();
  return used;
}

}  // namespace vhdkit::vhdx
