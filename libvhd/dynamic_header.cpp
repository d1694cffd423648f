#include "libvhd/dynamic_header.h"

#include <fmt/format.h>

#include <algorithm>

#include "libvhd/checksum.h"
#include "support/utf16.h"

namespace vhdkit::libvhd {
namespace {

constexpr size_t parent_name_bytes = sizeof(DynamicHeader::parent_unicode_name);

Result<void> check_block_size(uint32_t block_size, std::string_view where) {
  if (!is_power_of_two(block_size))
    return fail(Errc::corrupt,
                fmt::format("{}: block size {:#x} is not a power of two", where, block_size));
  if (block_size < min_block_bytes)
    return fail(Errc::unsupported,
                fmt::format("{}: block size {} is below the smallest one supported, {}", where,
                            block_size, min_block_bytes));
  return {};
}

std::vector<ParentLocator> used_locators(const DynamicHeader& raw) {
  std::vector<ParentLocator> used;
  for (uint32_t i = 0; i < raw.parent_locators.size(); ++i) {
    const ParentLocatorEntry& entry = raw.parent_locators[i];
    if (entry.platform_code == platform_none) continue;
    used.push_back({.index = i,
                    .platform_code = entry.platform_code,
                    .data_space = entry.platform_data_space,
                    .data_length_bytes = entry.platform_data_length,
                    .data_offset = entry.platform_data_offset});
  }
  return used;
}

bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length) {
  return a < b + b_length && b < a + a_length;
}

}  // namespace

DynamicDiskHeader header_values(const DynamicHeader& raw) {
  return {.table_offset = raw.table_offset,
          .max_table_entries = raw.max_table_entries,
          .block_size_bytes = raw.block_size,
          .parent_unique_id = Guid::from_big_endian(raw.parent_unique_id),
          .parent_time_stamp = raw.parent_time_stamp,
          .parent_name = utf16_to_utf8(raw.parent_unicode_name, ByteOrder::big),
          .parent_locators = used_locators(raw)};
}

uint32_t header_checksum(const DynamicHeader& raw) {
  return checksum_without(bytes_of(raw), offsetof(DynamicHeader, checksum));
}

Result<DynamicDiskHeader> parse_dynamic_header(std::span<const std::byte> bytes,
                                               std::string_view where) {
  const auto raw = load<DynamicHeader>(bytes);
  if (!raw)
    return fail(Errc::corrupt, fmt::format("{}: cut off after {} bytes", where, bytes.size()));
  if (raw->cookie != dynamic_header_cookie)
    return fail(Errc::corrupt,
                fmt::format("{}: cookie {:#x} is not \"cxsparse\"", where, uint64_t(raw->cookie)));
  if (raw->checksum != header_checksum(*raw))
    return fail(Errc::corrupt, fmt::format("{}: checksum {:#x} should be {:#x}", where,
                                           uint32_t(raw->checksum), header_checksum(*raw)));
  if (raw->header_version >> 16 != supported_version >> 16)
    return fail(Errc::unsupported, fmt::format("{}: header version {:#x} is not 1.x", where,
                                               uint32_t(raw->header_version)));
  TRY(check_block_size(raw->block_size, where));
  return header_values(*raw);
}

DynamicHeader build_dynamic_header(const DynamicDiskHeader& header) {
  DynamicHeader raw{};
  raw.cookie = dynamic_header_cookie;
  raw.data_offset = no_offset;
  raw.table_offset = header.table_offset;
  raw.header_version = supported_version;
  raw.max_table_entries = header.max_table_entries;
  raw.block_size = header.block_size_bytes;
  std::ranges::copy(header.parent_unique_id.big_endian(), raw.parent_unique_id.begin());
  raw.parent_time_stamp = header.parent_time_stamp;
  const std::vector<std::byte> name = utf8_to_utf16(header.parent_name, ByteOrder::big);
  // The last unit stays zero: readers look for the end.
  std::copy_n(name.begin(), std::min(name.size(), parent_name_bytes - 2),
              raw.parent_unicode_name.begin());
  for (const ParentLocator& locator : header.parent_locators) {
    ParentLocatorEntry& entry = raw.parent_locators.at(locator.index);
    entry.platform_code = locator.platform_code;
    entry.platform_data_space = locator.data_space;
    entry.platform_data_length = locator.data_length_bytes;
    entry.platform_data_offset = locator.data_offset;
  }
  raw.checksum = header_checksum(raw);
  return raw;
}

Async<DynamicDiskHeader> read_dynamic_header(File& file, uint64_t file_offset,
                                             uint64_t content_end) {
  const std::string where =
      fmt::format("{}: dynamic disk header at offset {:#x}", file.name(), file_offset);
  if (file_offset < sizeof(Footer))
    co_return fail(Errc::corrupt, where + ": lies in the copy of the footer");
  if (!range_fits(file_offset, sizeof(DynamicHeader), content_end))
    co_return fail(Errc::corrupt,
                   fmt::format("{}: runs past the end of the content ({:#x})", where, content_end));
  std::array<std::byte, sizeof(DynamicHeader)> bytes;
  const std::span<std::byte> buffer(bytes);
  CO_TRY(co_await file.read(file_offset, buffer));
  CO_TRY_LET(DynamicDiskHeader header, parse_dynamic_header(buffer, where));
  const uint64_t table_bytes = uint64_t{header.max_table_entries} * sizeof(be32);
  if (header.table_offset < sizeof(Footer) || header.table_offset > content_end)
    co_return fail(Errc::corrupt, fmt::format("{}: table offset {:#x} lies outside the content "
                                              "(0x200 to {:#x})",
                                              where, header.table_offset, content_end));
  if (overlap(header.table_offset, table_bytes, file_offset, sizeof(DynamicHeader)))
    co_return fail(Errc::corrupt, fmt::format("{}: table offset {:#x} lays the BAT upon the header",
                                              where, header.table_offset));
  co_return header;
}

}  // namespace vhdkit::libvhd
