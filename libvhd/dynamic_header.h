// The Dynamic Disk Header with its parent locators: parsed, validated and built.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "async/file.h"
#include "libvhd/format.h"
#include "support/guid.h"

namespace vhdkit::libvhd {

// A used entry of the header's eight.
struct ParentLocator {
  uint32_t index = 0;
  uint32_t platform_code = platform_none;
  uint32_t data_space = 0;         // as stored: sectors or bytes, depending on the writer
  uint32_t data_length_bytes = 0;  // as stored, unchecked
  uint64_t data_offset = 0;        // bytes, as stored, unchecked
};

// A header whose fields were found valid.
struct DynamicDiskHeader {
  uint64_t table_offset = 0;       // bytes: the BAT
  uint32_t max_table_entries = 0;  // of the BAT
  uint32_t block_size_bytes = default_block_bytes;
  Guid parent_unique_id;
  uint32_t parent_time_stamp = 0;  // seconds since 2000-01-01 00:00:00 UTC
  std::string parent_name;         // UTF-8; written cut after 255 UTF-16 units
  std::vector<ParentLocator> parent_locators;
};

// bytes: at least 1,024. where: begins messages, such as "a.vhd: dynamic disk header at offset
// 0x200". Errors: corrupt (cookie, checksum, block size); unsupported (version, block size below
// 512 KiB).
Result<DynamicDiskHeader> parse_dynamic_header(std::span<const std::byte> bytes,
                                               std::string_view where);
// The fields as they stand, valid or not: for checks.
DynamicDiskHeader header_values(const DynamicHeader& raw);
uint32_t header_checksum(const DynamicHeader& raw);
// With its checksum.
DynamicHeader build_dynamic_header(const DynamicDiskHeader& header);

// Reads the header at file_offset, which the footer named; content_end is where the footer at the
// tail begins. Errors: as parse_dynamic_header; corrupt where the header or the BAT's start lies
// outside the file, or one upon the other; io.
Async<DynamicDiskHeader> read_dynamic_header(File& file, uint64_t file_offset,
                                             uint64_t content_end);

}  // namespace vhdkit::libvhd
