#include <fmt/format.h>

#include <algorithm>

#include "libvhd/check_parts.h"

namespace vhdkit::libvhd {
namespace {

using disk::Findings;
using disk::Severity;

void check_identity_fields(const DynamicHeader& raw, Subject& subject) {
  if (raw.checksum != header_checksum(raw))
    subject.add(Severity::corruption, "vhd-header-checksum", "Checksum",
                offsetof(DynamicHeader, checksum), hex(raw.checksum),
                fmt::format("checksum {:#x} should be {:#x}", uint32_t(raw.checksum),
                            header_checksum(raw)));
  if (raw.header_version != supported_version)
    subject.add(raw.header_version >> 16 == 1 ? Severity::warning : Severity::corruption,
                "vhd-header-version", "Header Version", offsetof(DynamicHeader, header_version),
                hex(raw.header_version),
                fmt::format("header version {:#x} should be {:#x}", uint32_t(raw.header_version),
                            supported_version));
  if (raw.data_offset != no_offset)
    subject.add(Severity::warning, "vhd-header-data-offset", "Data Offset",
                offsetof(DynamicHeader, data_offset), hex(raw.data_offset),
                fmt::format("data offset {:#x} should be all ones", uint64_t(raw.data_offset)));
  if (raw.reserved != 0 || !is_zero(raw.reserved2))
    subject.add(Severity::warning, "vhd-header-reserved", "Reserved",
                offsetof(DynamicHeader, reserved), hex(raw.reserved),
                "reserved bytes should be zero");
}

// Whether the BAT can be looked at.
bool check_block_size(const DynamicHeader& raw, Subject& subject) {
  const uint32_t block_size = raw.block_size;
  const bool usable = is_power_of_two(block_size) && block_size >= min_block_bytes;
  if (!usable)
    subject.add(Severity::corruption, "vhd-header-block-size", "Block Size",
                offsetof(DynamicHeader, block_size), hex(block_size),
                fmt::format("block size {:#x} should be a power of two, at least {:#x}", block_size,
                            min_block_bytes));
  else if (block_size != default_block_bytes)
    subject.add(
        Severity::note, "vhd-block-size-unusual", "Block Size", offsetof(DynamicHeader, block_size),
        hex(block_size),
        fmt::format("block size {} is allowed, but some programs know 2 MiB only", block_size));
  return usable;
}

bool check_table_place(const DynamicHeader& raw, const FooterToCheck& found, Subject& subject) {
  constexpr uint64_t field = offsetof(DynamicHeader, table_offset);
  const uint64_t begin = raw.table_offset;
  if (begin < sizeof(Footer) || begin > found.content_end) {
    subject.add(Severity::corruption, "vhd-bat-outside", "Table Offset", field, hex(begin),
                fmt::format("table offset {:#x} should lie between 0x200 and the end of the "
                            "content ({:#x})",
                            begin, found.content_end));
    return false;
  }
  const uint64_t end = begin + uint64_t{raw.max_table_entries} * sizeof(be32);
  const uint64_t header = found.footer.data_offset;
  if (begin < header + sizeof(DynamicHeader) && header < end) {
    subject.add(Severity::corruption, "vhd-bat-upon-header", "Table Offset", field, hex(begin),
                fmt::format("table offset {:#x} lays the BAT upon the header", begin));
    return false;
  }
  if (!is_aligned(begin, sector_bytes))
    subject.add(Severity::warning, "vhd-bat-unaligned", "Table Offset", field, hex(begin),
                fmt::format("table offset {:#x} should be a multiple of 512", begin));
  if (end > found.content_end)
    subject.add(Severity::corruption, "vhd-bat-past-end", "Max Table Entries",
                offsetof(DynamicHeader, max_table_entries), hex(raw.max_table_entries),
                fmt::format("{} entries end the BAT at offset {:#x}, past the end of the content "
                            "({:#x})",
                            uint32_t(raw.max_table_entries), end, found.content_end));
  return true;
}

void check_table_length(const DynamicHeader& raw, const FooterToCheck& found, Subject& subject) {
  constexpr uint64_t field = offsetof(DynamicHeader, max_table_entries);
  const uint64_t needed = ceil_div(found.footer.size_bytes(), raw.block_size);
  const uint64_t there = raw.max_table_entries;
  if (there < needed)
    subject.add(Severity::corruption, "vhd-bat-too-short", "Max Table Entries", field, hex(there),
                fmt::format("{} entries are too few for the {} blocks of the disk", there, needed));
  else if (there > needed)
    subject.add(Severity::warning, "vhd-bat-too-long", "Max Table Entries", field, hex(there),
                fmt::format("{} entries are more than the {} blocks of the disk; Azure takes the "
                            "disk for larger",
                            there, needed));
}

void check_locator_fields(const DynamicHeader& raw, bool is_differencing, Subject& subject) {
  for (size_t i = 0; i < raw.parent_locators.size(); ++i) {
    const ParentLocatorEntry& entry = raw.parent_locators[i];
    const uint64_t field = offsetof(DynamicHeader, parent_locators) + i * sizeof entry;
    const std::string name = fmt::format("Parent Locator Entry {}", i);
    if (entry.reserved != 0)
      subject.add(Severity::warning, "vhd-locator-reserved", name, field, hex(entry.reserved),
                  name + ": the reserved field should be zero");
    if (!is_differencing && entry.platform_code != platform_none)
      subject.add(Severity::note, "vhd-locator-unused", name, field, hex(entry.platform_code),
                  name + " stands in a disk without a parent");
  }
}

bool overlap(const Structure& structure, const ParentLocator& locator) {
  return structure.file_offset < locator.data_offset + locator.data_length_bytes &&
         locator.data_offset < structure.file_offset + structure.length;
}

void check_locator(const BlockLayout& layout, const LocatedParent& located, Subject& subject) {
  const ParentLocator& locator = located.locator;
  const std::string code = code_text(locator.platform_code);
  if (!located.path) {
    subject.add(Severity::warning, "vhd-locator-damaged", code, 0, hex(locator.data_offset),
                located.damage);
    return;
  }
  if (locator.data_length_bytes > locator_room_bytes(locator))
    subject.add(Severity::warning, "vhd-locator-space", code, 0, hex(locator.data_space),
                fmt::format("platform data space {:#x} is too small for {} bytes",
                            locator.data_space, locator.data_length_bytes));
  for (const Structure& structure : layout.structures)
    if (structure.locator_index != locator.index && overlap(structure, locator))
      subject.add(Severity::warning, "vhd-locator-overlap", code, 0, hex(locator.data_offset),
                  fmt::format("platform data at offset {:#x} lies upon {}", locator.data_offset,
                              structure.name));
}

}  // namespace

Async<std::optional<DynamicDiskHeader>> check_header(File& file, const FooterToCheck& found,
                                                     Findings& findings) {
  const uint64_t file_offset = found.footer.data_offset;
  Subject subject(findings, "dynamic disk header", file_offset);
  if (file_offset < sizeof(Footer) ||
      !range_fits(file_offset, sizeof(DynamicHeader), found.content_end)) {
    subject.add(Severity::corruption, "vhd-header-outside", "", 0, hex(file_offset),
                fmt::format("at offset {:#x} it would lie outside the content (0x200 to {:#x})",
                            file_offset, found.content_end));
    co_return std::nullopt;
  }
  std::array<std::byte, sizeof(DynamicHeader)> bytes;
  const std::span<std::byte> buffer(bytes);
  CO_TRY(co_await file.read(file_offset, buffer));
  const DynamicHeader raw = *load<DynamicHeader>(buffer);
  if (raw.cookie != dynamic_header_cookie) {
    subject.add(Severity::corruption, "vhd-header-cookie", "Cookie", 0, hex(raw.cookie),
                fmt::format("cookie {:#x} is not \"cxsparse\"", uint64_t(raw.cookie)));
    if (raw.checksum != header_checksum(raw)) co_return std::nullopt;  // something else lies there
  }
  check_identity_fields(raw, subject);
  check_locator_fields(raw, found.footer.type == DiskType::differencing, subject);
  const bool usable_blocks = check_block_size(raw, subject);
  if (usable_blocks) check_table_length(raw, found, subject);
  const bool usable_table = check_table_place(raw, found, subject);
  if (!usable_blocks || !usable_table) co_return std::nullopt;
  co_return header_values(raw);
}

void check_parent(const BlockLayout& layout, uint64_t header_offset,
                  const DynamicDiskHeader& header, const std::vector<LocatedParent>& located,
                  Findings& findings) {
  for (const LocatedParent& one : located) {
    const uint64_t entry_offset = header_offset + offsetof(DynamicHeader, parent_locators) +
                                  one.locator.index * sizeof(ParentLocatorEntry);
    Subject subject(findings, fmt::format("parent locator {}", one.locator.index), entry_offset);
    check_locator(layout, one, subject);
  }
  Subject parent(findings, "parent of the differencing disk", header_offset);
  if (header.parent_unique_id.is_zero())
    parent.add(Severity::warning, "vhd-parent-id-zero", "Parent Unique ID",
               offsetof(DynamicHeader, parent_unique_id), header.parent_unique_id.to_string(),
               "its unique id is zero: no VHD has that, but a raw file of blktap's may be meant");
  const disk::ParentReference reference = parent_reference(header, located);
  const bool can_be_found = std::ranges::any_of(reference.paths, [](const disk::ParentPath& path) {
    return path.kind != disk::PathKind::other;
  });
  if (!can_be_found)
    parent.add(Severity::warning, "vhd-parent-path-missing", "",
               offsetof(DynamicHeader, parent_locators), "",
               "no locator says in a readable way where it is");
}

}  // namespace vhdkit::libvhd
