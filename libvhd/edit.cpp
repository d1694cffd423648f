#include "libvhd/edit.h"

#include <cassert>

#include "libvhd/dynamic_header.h"
#include "libvhd/footer.h"
#include "support/utf16.h"

namespace vhdkit::libvhd {
namespace {

// The tail first: as long as it is whole, it counts.
Async<void> write_footers(File& file, uint64_t tail_offset, const HardDiskFooter& footer) {
  const Footer raw = build_footer(footer);
  const auto bytes = bytes_of(raw);
  CO_TRY(co_await file.write(tail_offset, bytes));
  CO_TRY(co_await file.flush());
  if (footer.type == DiskType::fixed) co_return Result<void>();
  CO_TRY(co_await file.write(0, bytes));
  co_return co_await file.flush();
}

struct LocatorData {
  uint64_t file_offset;
  std::vector<std::byte> bytes;
};

// Gives the header its locators, with their data from file_offset on; returns where that ends.
uint64_t place_locators(const ParentLink& parent, uint64_t file_offset, DynamicDiskHeader& header,
                        std::vector<LocatorData>& data) {
  header.parent_locators.clear();
  const std::pair<uint32_t, const std::string*> paths[] = {{platform_w2ru, &parent.relative_path},
                                                           {platform_w2ku, &parent.absolute_path}};
  for (const auto& [platform_code, path] : paths) {
    if (path->empty()) continue;
    std::vector<std::byte> bytes = utf8_to_utf16(*path, ByteOrder::little);
    const uint64_t room = align_up(bytes.size(), sector_bytes);
    header.parent_locators.push_back({.index = uint32_t(data.size()),
                                      .platform_code = platform_code,
                                      .data_space = uint32_t(room),
                                      .data_length_bytes = uint32_t(bytes.size()),
                                      .data_offset = file_offset});
    data.push_back({.file_offset = file_offset, .bytes = std::move(bytes)});
    file_offset += room;
  }
  return file_offset;
}

Async<void> write_header(File& file, uint64_t file_offset, const DynamicHeader& raw) {
  const auto bytes = bytes_of(raw);
  co_return co_await file.write(file_offset, bytes);
}

}  // namespace

Async<void> set_unique_id(File& file, const Guid& unique_id) {
  CO_TRY_LET(FoundFooter found, co_await find_footer(file));
  found.footer.unique_id = unique_id;
  co_return co_await write_footers(file, found.content_end, found.footer);
}

Async<void> change_parent(File& file, const ParentLink& parent) {
  CO_TRY_LET(FoundFooter found, co_await find_footer(file));
  assert(found.footer.type == DiskType::differencing);
  if (parent.relative_path.empty() && parent.absolute_path.empty())
    co_return fail(Errc::invalid_argument, file.name() + ": the parent has no path");
  const uint64_t own_place = found.footer.data_offset;
  CO_TRY_LET(DynamicDiskHeader header,
             co_await read_dynamic_header(file, own_place, found.content_end));
  header.parent_unique_id = parent.unique_id;
  header.parent_time_stamp = parent.time_stamp;
  header.parent_name = parent.name;
  const uint64_t other_place = align_up(found.content_end, sector_bytes) + sizeof(Footer);
  std::vector<LocatorData> locators;
  const uint64_t tail_offset =
      place_locators(parent, other_place + sizeof(DynamicHeader), header, locators);
  const DynamicHeader raw = build_dynamic_header(header);

  CO_TRY(co_await write_header(file, other_place, raw));
  for (const LocatorData& locator : locators) {
    const std::span<const std::byte> bytes(locator.bytes);
    CO_TRY(co_await file.write(locator.file_offset, bytes));
  }
  CO_TRY(co_await file.flush());
  found.footer.data_offset = other_place;
  CO_TRY(co_await write_footers(file, tail_offset, found.footer));
  CO_TRY(co_await write_header(file, own_place, raw));
  CO_TRY(co_await file.flush());
  found.footer.data_offset = own_place;
  co_return co_await write_footers(file, tail_offset, found.footer);
}

}  // namespace vhdkit::libvhd
