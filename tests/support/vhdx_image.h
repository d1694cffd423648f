// A small VHDX image in memory with a place for each structure, for tests that look at one of them
// or damage one.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "async/memory_file.h"
#include "vhdx/headers.h"
#include "vhdx/metadata.h"
#include "vhdx/region_table.h"

namespace vhdkit::tests {

// Bytes from hexadecimal digits; blanks between them are for people.
inline std::vector<std::byte> from_hex(std::string_view text) {
  std::vector<std::byte> bytes;
  unsigned digits = 0;
  unsigned value = 0;
  for (const char c : text) {
    if (c == ' ') continue;
    value = value << 4 | unsigned(c <= '9' ? c - '0' : c - 'a' + 10);
    if (++digits % 2 == 0) bytes.push_back(std::byte(value & 0xff));
  }
  return bytes;
}

struct VhdxImage {
  // The log lies at 1 MiB, the metadata region at 2 MiB, the BAT region at 3 MiB, and blocks may
  // lie behind them.
  static constexpr uint64_t metadata_offset = 2 * MiB;
  static constexpr uint64_t bat_offset = 3 * MiB;

  vhdx::FileHeader header = {
      .sequence_number = 7,
      .file_write_guid = Guid::literal("11111111-2222-3333-4444-555555555555"),
      .data_write_guid = Guid::literal("01234567-89ab-cdef-0123-456789abcdef"),
      .log_guid = {},
      .log_offset = 1 * MiB,
      .log_length = 1 * MiB};
  vhdx::Region bat = {
      .guid = vhdx::bat_region, .file_offset = bat_offset, .length = 1 * MiB, .required = true};
  vhdx::Region metadata_region = {.guid = vhdx::metadata_region,
                                  .file_offset = metadata_offset,
                                  .length = 1 * MiB,
                                  .required = true};
  vhdx::Metadata metadata = {.block_size_bytes = 1 * MiB,
                             .leave_blocks_allocated = false,
                             .has_parent = false,
                             .disk_size_bytes = 8 * MiB,
                             .disk_id = Guid::literal("89abcdef-0123-4567-89ab-cdef01234567"),
                             .logical_sector_bytes = 512,
                             .physical_sector_bytes = 4096,
                             .parent_locator = {},
                             .unknown = {}};
  std::vector<std::pair<uint64_t, uint64_t>> entries;  // of the BAT: index and value
  uint64_t file_bytes = 32 * MiB;

  void make_differencing() {
    metadata.has_parent = true;
    metadata.parent_locator = vhdx::ParentLocator{
        .entries = {{vhdx::key_linkage, "{fedcba98-7654-3210-fedc-ba9876543210}"},
                    {vhdx::key_relative_path, R"(.\base.vhdx)"}}};
  }

  std::unique_ptr<async::MemoryFile> build(std::string name = "a.vhdx") const {
    auto file = std::make_unique<async::MemoryFile>(std::move(name));
    vhdx::FileTypeIdentifier identifier{};
    identifier.signature = vhdx::file_signature;
    file->store(0, bytes_of(identifier));
    vhdx::FileHeader older = header;
    --older.sequence_number;
    file->store(vhdx::header_offsets[0], bytes_of(vhdx::build_header(older)));
    file->store(vhdx::header_offsets[1], bytes_of(vhdx::build_header(header)));
    for (const uint64_t offset : vhdx::region_table_offsets)
      file->store(offset, vhdx::build_region_table(bat, metadata_region));
    const std::vector<std::byte> region = vhdx::build_metadata(metadata);
    const auto used = std::span(region).first(vhdx::metadata_used_bytes(metadata));
    file->store(metadata_region.file_offset, used);
    for (const auto& [index, value] : entries)
      file->store(bat.file_offset + index * sizeof(le64), bytes_of(le64(value)));
    std::ignore = file->resize(file_bytes);
    return file;
  }
};

}  // namespace vhdkit::tests
