#include "vhdx/edit.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "vhdx/log_writer.h"
#include "vhdx/metadata.h"
#include "vhdx/region_table.h"
#include "vhdx/replay.h"

namespace vhdkit::vhdx {
namespace {

// The sectors of the log that a change touches, as they will be.
class Pages {
 public:
  explicit Pages(File& file) : file_(file) {}

  Async<void> patch(uint64_t file_offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const uint64_t page_offset = align_down(file_offset, log_sector_bytes);
      const size_t in_page = file_offset - page_offset;
      const size_t count = std::min<size_t>(bytes.size(), log_sector_bytes - in_page);
      auto [page, is_new] = pages_.try_emplace(page_offset, log_sector_bytes);
      if (is_new) {
        const std::span<std::byte> buffer(page->second);
        CO_TRY(co_await file_.read(page_offset, buffer));
      }
      std::ranges::copy(bytes.first(count), page->second.begin() + ptrdiff_t(in_page));
      file_offset += count;
      bytes = bytes.subspan(count);
    }
    co_return Result<void>();
  }

  std::vector<disk::ChangedPage> take() {
    std::vector<disk::ChangedPage> pages;
    for (auto& [file_offset, bytes] : pages_)
      pages.push_back({.file_offset = file_offset, .bytes = std::move(bytes), .piece = nullptr});
    return pages;
  }

 private:
  File& file_;
  std::map<uint64_t, std::vector<std::byte>> pages_;
};

Async<FoundHeaders> read_clean_headers(File& file) {
  CO_TRY_LET(FoundHeaders headers, co_await read_headers(file));
  if (!headers.current.log_is_empty())
    co_return fail(Errc::invalid_argument,
                   file.name() + ": the log is not empty; it must be replayed first");
  CO_TRY(check_sequence_room(file, headers));
  co_return std::move(headers);
}

// One log entry from its writing to its end.
Async<void> write_logged(File& file, FoundHeaders& headers,
                         const std::vector<disk::ChangedPage>& pages,
                         const std::optional<Guid>& data_write_guid) {
  if (headers.current.log_length < alignment_bytes)
    co_return fail(Errc::unsupported,
                   fmt::format("{}: a log of {:#x} bytes is too short to change the image with",
                               file.name(), headers.current.log_length));
  headers.current.file_write_guid = Guid::random();
  CO_TRY(co_await write_headers(file, headers));
  CO_TRY(co_await align_end(file));
  LogWriter log(file, headers.current);
  const FileEnds ends{.flushed = file.size_bytes(), .last = file.size_bytes()};
  const std::span<const disk::ChangedPage> all(pages);
  CO_TRY(co_await log.write(all, ends));
  headers.current.log_guid = log.guid();
  headers.current.data_write_guid = data_write_guid.value_or(headers.current.data_write_guid);
  CO_TRY(co_await write_headers(file, headers));
  for (const disk::ChangedPage& page : pages) {
    const std::span<const std::byte> bytes(page.bytes);
    CO_TRY(co_await file.write(page.file_offset, bytes));
  }
  CO_TRY(co_await file.flush());
  headers.current.log_guid = Guid();
  co_return co_await write_headers(file, headers);
}

// The metadata table's entries, as they lie in it.
struct Table {
  std::vector<MetadataTableEntry> entries;

  // Where the system item's entry is. REQUIRES: it is there.
  size_t index_of(const Guid& id) const {
    const auto found = std::ranges::find_if(entries, [&id](const MetadataTableEntry& entry) {
      return Guid::from_stored(entry.item_id) == id && (entry.flags & metadata_is_user) == 0;
    });
    return size_t(found - entries.begin());
  }
  uint64_t end_of_items() const {
    uint64_t end = metadata_table_bytes;
    for (const MetadataTableEntry& entry : entries)
      end = std::max(end, uint64_t{entry.offset} + uint64_t{entry.length});
    return end;
  }
};

// REQUIRES: read_metadata() found it valid.
Async<Table> read_table(File& file, const Region& region) {
  MetadataTableHeader header{};
  const std::span<std::byte> header_bytes = writable_bytes_of(header);
  CO_TRY(co_await file.read(region.file_offset, header_bytes));
  Table table;
  table.entries.resize(header.entry_count);
  const auto entries = std::as_writable_bytes(std::span(table.entries));
  CO_TRY(co_await file.read(region.file_offset + sizeof header, entries));
  co_return std::move(table);
}

Result<void> check_change(const File& file, const Metadata& metadata,
                          const MetadataChange& change) {
  if (change.parent_locator && !metadata.has_parent)
    return fail(Errc::invalid_argument, file.name() + ": has no parent, so it has no locator");
  if (change.disk_size_bytes) TRY(check_new_disk_size(file, metadata, *change.disk_size_bytes));
  if (!change.physical_sector_bytes) return {};
  const uint32_t physical = *change.physical_sector_bytes;
  if ((physical == 512 || physical == 4096) && physical >= metadata.logical_sector_bytes) return {};
  return fail(Errc::invalid_argument,
              fmt::format("{}: a physical sector of {} bytes: it has 512 or 4096, and at least the "
                          "logical sector's {}",
                          file.name(), physical, metadata.logical_sector_bytes));
}

Async<void> patch_locator(Pages& pages, const Region& region, const Table& table,
                          const ParentLocator& locator, const std::string& name) {
  const std::vector<std::byte> item = build_parent_locator(locator);
  const size_t index = table.index_of(parent_locator_item);
  MetadataTableEntry entry = table.entries[index];
  if (item.size() > entry.length) {
    const uint64_t end = align_up(table.end_of_items(), sizeof(le64));
    if (!range_fits(end, item.size(), region.length))
      co_return fail(Errc::no_space, name + ": the metadata region has no room for the locator");
    entry.offset = uint32_t(end);
  }
  entry.length = uint32_t(item.size());
  const std::span<const std::byte> item_bytes(item);
  CO_TRY(co_await pages.patch(region.file_offset + entry.offset, item_bytes));
  const uint64_t entry_offset =
      region.file_offset + sizeof(MetadataTableHeader) + index * sizeof(MetadataTableEntry);
  const auto entry_bytes = bytes_of(entry);
  co_return co_await pages.patch(entry_offset, entry_bytes);
}

Async<void> patch_region_tables(Pages& pages, File& file, unsigned good_index, const Region& bat) {
  std::vector<std::byte> table(region_table_bytes);
  const std::span<std::byte> buffer(table);
  CO_TRY(co_await file.read(region_table_offsets[good_index], buffer));
  move_region(table, bat);
  const std::span<const std::byte> bytes(table);
  for (const uint64_t file_offset : region_table_offsets)
    CO_TRY(co_await pages.patch(file_offset, bytes));
  co_return Result<void>();
}

}  // namespace

Result<void> check_new_disk_size(const File& file, const Metadata& metadata, uint64_t size_bytes) {
  const uint32_t unit = metadata.logical_sector_bytes;
  if (size_bytes > 0 && size_bytes <= max_disk_bytes && is_aligned(size_bytes, unit)) return {};
  return fail(
      Errc::invalid_argument,
      fmt::format("{}: a size of {} bytes: it must be a multiple of the logical sector's {} "
                  "bytes, from there to {} (64 TiB)",
                  file.name(), size_bytes, unit, max_disk_bytes));
}

Async<void> set_data_write_guid(File& file, const Guid& data_write_guid) {
  CO_TRY_LET(FoundHeaders headers, co_await read_clean_headers(file));
  headers.current.file_write_guid = Guid::random();
  headers.current.data_write_guid = data_write_guid;
  co_return co_await write_headers(file, headers);
}

Async<void> change_metadata(File& file, const MetadataChange& change) {
  CO_TRY_LET(FoundHeaders headers, co_await read_clean_headers(file));
  CO_TRY_LET(const RegionTable regions, co_await read_region_table(file, headers.current));
  CO_TRY_LET(const Metadata metadata, co_await read_metadata(file, regions.metadata));
  CO_TRY(check_change(file, metadata, change));
  CO_TRY_LET(const Table table, co_await read_table(file, regions.metadata));
  const auto place_of = [&](const Guid& id) {
    return regions.metadata.file_offset + table.entries[table.index_of(id)].offset;
  };
  Pages pages(file);
  if (change.disk_id) {
    const StoredGuid raw = change.disk_id->stored();
    const uint64_t place = place_of(virtual_disk_id_item);
    const auto bytes = bytes_of(raw);
    CO_TRY(co_await pages.patch(place, bytes));
  }
  if (change.physical_sector_bytes) {
    const le32 raw = *change.physical_sector_bytes;
    const uint64_t place = place_of(physical_sector_size_item);
    const auto bytes = bytes_of(raw);
    CO_TRY(co_await pages.patch(place, bytes));
  }
  if (change.disk_size_bytes) {
    const le64 raw = *change.disk_size_bytes;
    const uint64_t place = place_of(virtual_disk_size_item);
    const auto bytes = bytes_of(raw);
    CO_TRY(co_await pages.patch(place, bytes));
  }
  if (change.bat)
    CO_TRY(co_await patch_region_tables(pages, file, regions.used_index, *change.bat));
  if (change.parent_locator) {
    CO_TRY(co_await patch_locator(pages, regions.metadata, table, *change.parent_locator,
                                  file.name()));
  }
  const std::vector<disk::ChangedPage> changed = pages.take();
  if (changed.empty()) co_return Result<void>();
  co_return co_await write_logged(file, headers, changed, change.data_write_guid);
}

Async<void> make_sound(File& file) {
  CO_TRY(co_await replay_on_disk(file));
  CO_TRY(co_await repair_copies(file));
  co_return Result<void>();
}

}  // namespace vhdkit::vhdx
