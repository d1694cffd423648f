#include <fmt/format.h>

#include <algorithm>

#include "vhdx/check_parts.h"

namespace vhdkit::vhdx {
namespace {

using disk::Findings;
using disk::hex;
using disk::Severity;
using disk::Subject;

// [MS-VHDX] 2.6.2: what the table of known items prescribes.
struct KnownItem {
  Guid id;
  uint32_t flags;
  uint32_t length;  // bytes; 0: any
};
constexpr uint32_t of_file = metadata_is_required;
constexpr uint32_t of_disk = metadata_is_required | metadata_is_virtual_disk;
constexpr KnownItem known_items[] = {
    {file_parameters_item, of_file, sizeof(FileParameters)},
    {virtual_disk_size_item, of_disk, sizeof(le64)},
    {virtual_disk_id_item, of_disk, sizeof(StoredGuid)},
    {logical_sector_size_item, of_disk, sizeof(le32)},
    {physical_sector_size_item, of_disk, sizeof(le32)},
    {parent_locator_item, of_file, 0},
};

const KnownItem* known_item(const MetadataItem& item) {
  const auto found = std::ranges::find(known_items, item.id, &KnownItem::id);
  return item.is_user() || found == std::end(known_items) ? nullptr : &*found;
}

// The entries of the metadata table.
class TableCheck {
 public:
  TableCheck(const Region& region, Findings& findings) : region_(region), findings_(findings) {}

  void look_at(size_t index, const MetadataTableEntry& raw) {
    const MetadataItem item{.id = Guid::from_stored(raw.item_id),
                            .offset = raw.offset,
                            .length = raw.length,
                            .flags = raw.flags};
    Subject entry(findings_, fmt::format("metadata table entry {} ({})", index, item_name(item.id)),
                  region_.file_offset + sizeof(MetadataTableHeader) + index * sizeof raw);
    check_key(item, entry);
    check_flags(item, raw, entry);
    if (check_place(item, entry)) placed_.push_back(item);
  }

  void finish() {
    check_apart();
    if (user_count_ <= max_user_metadata_count) return;
    Subject table(findings_, "metadata table", region_.file_offset);
    table.add(Severity::corruption, "vhdx-metadata-user-count", "IsUser", 0,
              std::to_string(user_count_),
              fmt::format("{} user items are above {}", user_count_, max_user_metadata_count));
  }

  // Null where there is none in a place that it may have.
  const MetadataItem* find(const Guid& id) const {
    const auto found = std::ranges::find_if(
        placed_, [&id](const MetadataItem& item) { return item.id == id && !item.is_user(); });
    return found == placed_.end() ? nullptr : &*found;
  }
  // Whether there is an entry, in whatever place.
  bool has(const Guid& id) const {
    return std::ranges::find(keys_, std::pair(id, false)) != keys_.end();
  }

 private:
  void check_key(const MetadataItem& item, Subject& entry) {
    const std::pair key(item.id, item.is_user());
    if (std::ranges::find(keys_, key) != keys_.end())
      entry.add(Severity::corruption, "vhdx-item-twice", "ItemId", 0, item.id.to_string(),
                "there is an entry for this item already");
    keys_.push_back(key);
    user_count_ += item.is_user() ? 1 : 0;
    if (known_item(item) != nullptr) return;
    if (item.is_required())
      entry.add(Severity::corruption, "vhdx-item-unknown-required", "ItemId", 0,
                item.id.to_string(), "is required and not known here");
    else
      entry.add(Severity::note, "vhdx-item-unknown", "ItemId", 0, item.id.to_string(),
                item.is_user() ? "is a user's" : "is not known here, and not required");
  }

  static void check_flags(const MetadataItem& item, const MetadataTableEntry& raw, Subject& entry) {
    constexpr uint64_t field_offset = offsetof(MetadataTableEntry, flags);
    if ((item.flags & ~metadata_flags_mask) != 0 || raw.reserved2 != 0)
      entry.add(Severity::warning, "vhdx-item-reserved", "Reserved", field_offset, hex(item.flags),
                "reserved bits should be zero");
    const KnownItem* known = known_item(item);
    const uint32_t flags = item.flags & metadata_flags_mask;
    if (known != nullptr && flags != known->flags)
      entry.add(Severity::warning, "vhdx-item-flags", "IsUser, IsVirtualDisk, IsRequired",
                field_offset, hex(flags),
                fmt::format("flags {:#x} should be {:#x}", flags, known->flags));
  }

  // [MS-VHDX] 2.6.1.2. An empty item lies nowhere.
  bool check_place(const MetadataItem& item, Subject& entry) const {
    constexpr uint64_t offset_field = offsetof(MetadataTableEntry, offset);
    constexpr uint64_t length_field = offsetof(MetadataTableEntry, length);
    if (item.length == 0) {
      if (item.offset != 0)
        entry.add(Severity::warning, "vhdx-item-empty", "Offset", offset_field, hex(item.offset),
                  fmt::format("offset {:#x} of an empty item should be 0", item.offset));
      return true;
    }
    if (item.length > max_metadata_item_bytes) {
      entry.add(Severity::corruption, "vhdx-item-too-long", "Length", length_field,
                hex(item.length),
                fmt::format("length {:#x} is above {:#x}", item.length, max_metadata_item_bytes));
      return false;
    }
    if (item.offset < metadata_table_bytes) {
      entry.add(Severity::corruption, "vhdx-item-in-table", "Offset", offset_field,
                hex(item.offset), fmt::format("offset {:#x} lies in the table", item.offset));
      return false;
    }
    if (!range_fits(item.offset, item.length, region_.length)) {
      entry.add(Severity::corruption, "vhdx-item-past-end", "Offset", offset_field,
                hex(item.offset),
                fmt::format("offset {:#x} with length {:#x} runs past the end of the region "
                            "({:#x})",
                            item.offset, item.length, region_.length));
      return false;
    }
    return true;
  }

  void check_apart() const {
    std::vector<MetadataItem> sorted = placed_;
    std::erase_if(sorted, [](const MetadataItem& item) { return item.length == 0; });
    std::ranges::sort(sorted, {},
                      [](const MetadataItem& item) { return std::pair(item.offset, item.id); });
    const MetadataItem* last = nullptr;  // the one that reaches farthest
    const auto end_of = [](const MetadataItem& item) { return item.offset + item.length; };
    for (const MetadataItem& item : sorted) {
      if (last && item.offset < end_of(*last)) {
        Subject subject(findings_, item_name(item.id), region_.file_offset + item.offset);
        subject.add(Severity::corruption, "vhdx-items-overlap", "Offset", 0, hex(item.offset),
                    fmt::format("lies upon {} ({:#x} to {:#x} of the region)", item_name(last->id),
                                last->offset, end_of(*last)));
      }
      if (!last || end_of(item) > end_of(*last)) last = &item;
    }
  }

  Region region_;
  Findings& findings_;
  std::vector<std::pair<Guid, bool>> keys_;  // identifier, IsUser
  std::vector<MetadataItem> placed_;
  uint64_t user_count_ = 0;
};

// Returns how many entries there are to look at; nothing where this is no table.
std::optional<size_t> check_table_header(const MetadataTableHeader& raw, Subject& table) {
  if (raw.signature != metadata_signature) {
    table.add(Severity::corruption, "vhdx-metadata-signature", "Signature", 0, hex(raw.signature),
              fmt::format("signature {:#x} is not \"metadata\"", uint64_t(raw.signature)));
    return std::nullopt;
  }
  if (raw.reserved != 0 || !is_zero(raw.reserved2))
    table.add(Severity::warning, "vhdx-metadata-reserved", "Reserved",
              offsetof(MetadataTableHeader, reserved), hex(raw.reserved),
              "reserved bytes should be zero");
  if (raw.entry_count > max_metadata_count)
    table.add(
        Severity::corruption, "vhdx-metadata-count", "EntryCount",
        offsetof(MetadataTableHeader, entry_count), hex(raw.entry_count),
        fmt::format("entry count {} is above {}", uint16_t(raw.entry_count), max_metadata_count));
  return std::min<size_t>(raw.entry_count, max_metadata_count);
}

// The values of the items.
class ValueCheck {
 public:
  ValueCheck(File& file, const Region& region, const TableCheck& table, Findings& findings)
      : file_(file), region_(region), table_(table), findings_(findings) {}

  // Nothing where the values tell no blocks.
  Async<std::optional<Metadata>> run() {
    Metadata metadata;
    CO_TRY_LET(const auto parameters, co_await read<FileParameters>(file_parameters_item));
    CO_TRY_LET(const auto size, co_await read<le64>(virtual_disk_size_item));
    CO_TRY_LET(const auto disk_id, co_await read<StoredGuid>(virtual_disk_id_item));
    CO_TRY_LET(const auto logical, co_await read<le32>(logical_sector_size_item));
    CO_TRY_LET(const auto physical, co_await read<le32>(physical_sector_size_item));
    bool tells_blocks = parameters && size && logical;
    if (disk_id) metadata.disk_id = Guid::from_stored(*disk_id);
    if (parameters) tells_blocks = take_parameters(*parameters, metadata) && tells_blocks;
    if (logical) metadata.logical_sector_bytes = *logical;
    if (physical) metadata.physical_sector_bytes = *physical;
    if (logical) tells_blocks = check_sector(logical_sector_size_item, *logical) && tells_blocks;
    if (physical) check_sector(physical_sector_size_item, *physical);
    if (logical && physical) check_sectors(metadata);
    if (size) tells_blocks = take_size(*size, metadata) && tells_blocks;
    CO_TRY(co_await check_locator(metadata.has_parent));
    if (!tells_blocks) co_return std::nullopt;
    co_return metadata;
  }

 private:
  Subject subject_of(const Guid& id) const {
    const MetadataItem* item = table_.find(id);
    return {findings_, item_name(id), region_.file_offset + (item ? item->offset : 0)};
  }

  void add_missing(const Guid& id) const {
    if (table_.has(id)) return;  // and it was said what is wrong with it
    Subject table(findings_, "metadata table", region_.file_offset);
    table.add(Severity::corruption, "vhdx-item-missing", "", 0, id.to_string(),
              fmt::format("has no entry for {}", item_name(id)));
  }

  template <OnDisk T>
  Async<std::optional<T>> read(Guid id) {
    const MetadataItem* item = table_.find(id);
    if (item == nullptr) {
      add_missing(id);
      co_return std::nullopt;
    }
    if (item->length != sizeof(T)) {
      const bool is_short = item->length < sizeof(T);
      subject_of(id).add(is_short ? Severity::corruption : Severity::warning, "vhdx-item-length",
                         "Length", 0, hex(item->length),
                         fmt::format("length {} should be {}", item->length, sizeof(T)));
      if (is_short) co_return std::nullopt;
    }
    T value;
    const std::span<std::byte> buffer = writable_bytes_of(value);
    CO_TRY(co_await file_.read(region_.file_offset + item->offset, buffer));
    co_return value;
  }

  bool take_parameters(const FileParameters& raw, Metadata& metadata) const {
    Subject subject = subject_of(file_parameters_item);
    const uint32_t bytes = raw.block_size;
    metadata.block_size_bytes = bytes;
    metadata.leave_blocks_allocated = (raw.flags & leave_blocks_allocated) != 0;
    metadata.has_parent = (raw.flags & has_parent) != 0;
    if ((raw.flags & ~(leave_blocks_allocated | has_parent)) != 0)
      subject.add(Severity::warning, "vhdx-file-parameters-reserved", "Reserved",
                  offsetof(FileParameters, flags), hex(raw.flags), "reserved bits should be zero");
    if (is_power_of_two(bytes) && bytes >= min_block_bytes && bytes <= max_block_bytes) return true;
    subject.add(
        Severity::corruption, "vhdx-block-size", "BlockSize", 0, hex(bytes),
        fmt::format("block size {:#x} should be a power of two from 1 MiB to 256 MiB", bytes));
    return false;
  }

  bool check_sector(const Guid& id, uint32_t bytes) const {
    if (bytes == 512 || bytes == 4096) return true;
    subject_of(id).add(Severity::corruption, "vhdx-sector-size", "", 0, std::to_string(bytes),
                       fmt::format("{} should be 512 or 4096", bytes));
    return false;
  }

  void check_sectors(const Metadata& metadata) const {
    if (metadata.physical_sector_bytes >= metadata.logical_sector_bytes) return;
    subject_of(physical_sector_size_item)
        .add(Severity::warning, "vhdx-sector-sizes", "PhysicalSectorSize", 0,
             std::to_string(metadata.physical_sector_bytes),
             fmt::format("{} is less than the logical sector size, {}",
                         metadata.physical_sector_bytes, metadata.logical_sector_bytes));
  }

  bool take_size(uint64_t bytes, Metadata& metadata) const {
    Subject subject = subject_of(virtual_disk_size_item);
    metadata.disk_size_bytes = bytes;
    const uint32_t unit = metadata.logical_sector_bytes;
    if (bytes > max_disk_bytes)
      subject.add(Severity::corruption, "vhdx-disk-size", "VirtualDiskSize", 0, hex(bytes),
                  fmt::format("{:#x} is above 64 TiB", bytes));
    else if (bytes == 0)
      subject.add(Severity::warning, "vhdx-disk-empty", "VirtualDiskSize", 0, hex(bytes),
                  "the disk has no sectors");
    else if ((unit == 512 || unit == 4096) && !is_aligned(bytes, unit))
      subject.add(
          Severity::corruption, "vhdx-disk-size", "VirtualDiskSize", 0, hex(bytes),
          fmt::format("{:#x} is not a multiple of the logical sector size {}", bytes, unit));
    return bytes <= max_disk_bytes;
  }

  Async<void> check_locator(bool is_differencing) {
    const MetadataItem* item = table_.find(parent_locator_item);
    if (item == nullptr) {
      if (is_differencing) add_missing(parent_locator_item);
      co_return Result<void>();
    }
    if (!is_differencing) {
      subject_of(parent_locator_item)
          .add(Severity::warning, "vhdx-locator-unexpected", "", 0, "",
               "the disk has no parent, so nobody reads it");
      co_return Result<void>();
    }
    std::vector<std::byte> bytes(item->length);
    const std::span<std::byte> buffer(bytes);
    const uint64_t file_offset = region_.file_offset + item->offset;
    CO_TRY(co_await file_.read(file_offset, buffer));
    check_parent_locator(bytes, file_offset, findings_);
    co_return Result<void>();
  }

  File& file_;
  Region region_;
  const TableCheck& table_;
  Findings& findings_;
};

}  // namespace

Async<std::optional<Metadata>> check_metadata(File& file, const Region& region,
                                              Findings& findings) {
  Subject subject(findings, "metadata table", region.file_offset);
  if (region.length < metadata_table_bytes) {
    subject.add(Severity::corruption, "vhdx-metadata-too-short", "Length", 0, hex(region.length),
                fmt::format("the region's length {:#x} is below the table's {:#x}", region.length,
                            metadata_table_bytes));
    co_return std::nullopt;
  }
  std::vector<std::byte> bytes(metadata_table_bytes);
  const std::span<std::byte> buffer(bytes);
  CO_TRY(co_await file.read(region.file_offset, buffer));
  const auto count = check_table_header(*load<MetadataTableHeader>(bytes), subject);
  if (!count) co_return std::nullopt;
  TableCheck table(region, findings);
  for (size_t i = 0; i < *count; ++i)
    table.look_at(i, *load<MetadataTableEntry>(
                         bytes, sizeof(MetadataTableHeader) + i * sizeof(MetadataTableEntry)));
  table.finish();
  ValueCheck values(file, region, table, findings);
  co_return co_await values.run();
}

}  // namespace vhdkit::vhdx
