#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "support/crc32c.h"
#include "vhdx/check_parts.h"

namespace vhdkit::vhdx {
namespace {

using disk::Findings;
using disk::hex;
using disk::Severity;
using disk::Subject;

// A copy of the table as it lies in the file; bytes past its end are zero.
struct Copy {
  std::vector<std::byte> bytes;
  RegionTableHeader header{};
  uint32_t right_checksum = 0;

  bool has_signature() const { return header.signature == region_table_signature; }
  bool has_checksum() const { return header.checksum == right_checksum; }
  bool has_possible_count() const { return header.entry_count <= max_region_count; }
  bool is_valid() const { return has_signature() && has_checksum() && has_possible_count(); }
};
using Copies = std::array<Copy, 2>;

Async<Copies> read_copies(File& file) {
  Copies copies;
  for (size_t i = 0; i < copies.size(); ++i) {
    Copy& copy = copies[i];
    copy.bytes.resize(region_table_bytes);
    const uint64_t begin = std::min(region_table_offsets[i], file.size_bytes());
    const uint64_t length = std::min(region_table_bytes, file.size_bytes() - begin);
    const std::span<std::byte> buffer = std::span(copy.bytes).first(length);
    CO_TRY(co_await file.read(begin, buffer));
    copy.header = *load<RegionTableHeader>(copy.bytes);
    copy.right_checksum = crc32c_without(copy.bytes, offsetof(RegionTableHeader, checksum));
  }
  co_return copies;
}

// The index of the copy to go on with: a valid one before a damaged one that tells entries.
std::optional<size_t> choose(const Copies& copies) {
  for (const bool must_be_valid : {true, false})
    for (size_t i = 0; i < copies.size(); ++i)
      if (copies[i].is_valid() ||
          (!must_be_valid && copies[i].has_signature() && copies[i].has_possible_count()))
        return i;
  return std::nullopt;
}

void check_copy(const Copies& copies, size_t index, Findings& findings) {
  const Copy& copy = copies[index];
  const RegionTableHeader& raw = copy.header;
  // One valid copy is enough to read the image.
  const Severity severity = copies[1 - index].is_valid() ? Severity::warning : Severity::corruption;
  Subject table(findings, fmt::format("region table {}", index + 1), region_table_offsets[index]);
  if (!copy.has_signature()) {
    table.add(severity, "vhdx-region-table-signature", "Signature", 0, hex(raw.signature),
              fmt::format("signature {:#x} is not \"regi\"", uint32_t(raw.signature)));
    return;  // something else lies there
  }
  if (!copy.has_checksum())
    table.add(
        severity, "vhdx-region-table-checksum", "Checksum", offsetof(RegionTableHeader, checksum),
        hex(raw.checksum),
        fmt::format("checksum {:#x} should be {:#x}", uint32_t(raw.checksum), copy.right_checksum));
  if (!copy.has_possible_count())
    table.add(
        severity, "vhdx-region-table-count", "EntryCount", offsetof(RegionTableHeader, entry_count),
        hex(raw.entry_count),
        fmt::format("entry count {} is above {}", uint32_t(raw.entry_count), max_region_count));
  if (raw.reserved != 0)
    table.add(Severity::warning, "vhdx-region-table-reserved", "Reserved",
              offsetof(RegionTableHeader, reserved), hex(raw.reserved),
              fmt::format("reserved field {:#x} should be zero", uint32_t(raw.reserved)));
}

void compare_copies(const Copies& copies, Findings& findings) {
  const auto& [first, second] = copies;
  if (!first.is_valid() || !second.is_valid()) return;
  const auto difference = std::ranges::mismatch(first.bytes, second.bytes).in1;
  if (difference == first.bytes.end()) return;
  const auto at = uint64_t(difference - first.bytes.begin());
  Subject table(findings, "region table 2", region_table_offsets[1]);
  table.add(Severity::warning, "vhdx-region-tables-differ", "", at, "",
            fmt::format("differs from region table 1 from byte {} on; the first is used", at));
}

// The entries of one copy.
class EntryCheck {
 public:
  EntryCheck(uint64_t table_offset, uint64_t file_bytes, Findings& findings)
      : table_offset_(table_offset), file_bytes_(file_bytes), findings_(findings) {}

  void look_at(size_t index, const RegionTableEntry& raw) {
    const Guid guid = Guid::from_stored(raw.guid);
    Subject entry(findings_, fmt::format("region table entry {} ({})", index, region_name(guid)),
                  table_offset_ + sizeof(RegionTableHeader) + index * sizeof(RegionTableEntry));
    check_guid(guid, entry);
    check_flags(guid, raw, entry);
    const bool is_placed = check_place(raw, entry);
    const Region region{.guid = guid,
                        .file_offset = raw.file_offset,
                        .length = raw.length,
                        .required = (raw.flags & region_required) != 0};
    if (is_placed) placed_.push_back(region);
  }

  const std::vector<Region>& placed() const { return placed_; }
  bool has(const Guid& guid) const { return std::ranges::find(seen_, guid) != seen_.end(); }

 private:
  void check_guid(const Guid& guid, Subject& entry) {
    if (has(guid))
      entry.add(Severity::corruption, "vhdx-region-twice", "Guid", 0, guid.to_string(),
                "there is an entry for this region already");
    seen_.push_back(guid);
  }

  static void check_flags(const Guid& guid, const RegionTableEntry& raw, Subject& entry) {
    constexpr uint64_t field_offset = offsetof(RegionTableEntry, flags);
    const bool is_required = (raw.flags & region_required) != 0;
    if ((raw.flags & ~region_required) != 0)
      entry.add(Severity::warning, "vhdx-region-flags", "Required", field_offset, hex(raw.flags),
                fmt::format("{:#x} should be 0 or 1", uint32_t(raw.flags)));
    if (is_known_region(guid) && !is_required)
      entry.add(Severity::note, "vhdx-region-not-required", "Required", field_offset,
                hex(raw.flags), "should be marked as required; QEMU does not");
    if (!is_known_region(guid) && is_required)
      entry.add(Severity::corruption, "vhdx-region-unknown-required", "Guid", 0, guid.to_string(),
                "is required and not known here");
    if (!is_known_region(guid) && !is_required)
      entry.add(Severity::note, "vhdx-region-unknown", "Guid", 0, guid.to_string(),
                "is not known here, and not required");
  }

  bool check_place(const RegionTableEntry& raw, Subject& entry) const {
    const uint64_t begin = raw.file_offset;
    const uint64_t length = raw.length;
    const auto wrong_offset = [&](const char* code, const std::string& message) {
      entry.add(Severity::corruption, code, "FileOffset", offsetof(RegionTableEntry, file_offset),
                hex(begin), fmt::format("file offset {:#x} {}", begin, message));
      return false;
    };
    bool is_right = true;
    if (!is_aligned(length, alignment_bytes)) {
      entry.add(Severity::corruption, "vhdx-region-length", "Length",
                offsetof(RegionTableEntry, length), hex(length),
                fmt::format("length {:#x} is not a multiple of 1 MiB", length));
      is_right = false;
    }
    if (!is_aligned(begin, alignment_bytes))
      is_right = wrong_offset("vhdx-region-unaligned", "is not a multiple of 1 MiB");
    if (begin < header_section_bytes)
      is_right = wrong_offset("vhdx-region-in-header-section", "lies in the header section");
    if (!range_fits(begin, length, file_bytes_))
      is_right = wrong_offset("vhdx-region-past-end",
                              fmt::format("with length {:#x} runs past the end of the file ({:#x})",
                                          length, file_bytes_));
    return is_right;
  }

  uint64_t table_offset_;
  uint64_t file_bytes_;
  Findings& findings_;
  std::vector<Guid> seen_;
  std::vector<Region> placed_;
};

std::optional<Region> find_region(const EntryCheck& entries, const Guid& guid,
                                  uint64_t table_offset, Findings& findings) {
  const auto found = std::ranges::find(entries.placed(), guid, &Region::guid);
  if (found != entries.placed().end()) return *found;
  Subject table(findings, "region table", table_offset);
  if (!entries.has(guid))
    table.add(Severity::corruption, "vhdx-region-missing", "", 0, guid.to_string(),
              fmt::format("has no entry for the {}", region_name(guid)));
  return std::nullopt;
}

std::vector<Structure> structures_of(const FileHeader& header, const EntryCheck& entries) {
  std::vector<Structure> structures = {{"the header section", 0, header_section_bytes},
                                       {"the log", header.log_offset, header.log_length}};
  for (const Region& region : entries.placed())
    structures.push_back({"the " + region_name(region.guid), region.file_offset, region.length});
  std::erase_if(structures, [](const Structure& one) { return one.length == 0; });
  std::ranges::sort(structures, {}, [](const Structure& one) {
    return std::pair(one.file_offset, std::string_view(one.name));
  });
  return structures;
}

void check_apart(const std::vector<Structure>& structures, Findings& findings) {
  const Structure* last = nullptr;  // the one that reaches farthest
  const auto end_of = [](const Structure& one) { return one.file_offset + one.length; };
  for (const Structure& one : structures) {
    if (last && one.file_offset < end_of(*last)) {
      Subject subject(findings, one.name.substr(std::string_view("the ").size()), one.file_offset);
      subject.add(Severity::corruption, "vhdx-regions-overlap", "FileOffset", 0,
                  hex(one.file_offset),
                  fmt::format("lies upon {} ({:#x} to {:#x})", last->name, last->file_offset,
                              end_of(*last)));
    }
    if (!last || end_of(one) > end_of(*last)) last = &one;
  }
}

}  // namespace

Async<RegionsToCheck> check_regions(File& file, const FileHeader& header, Findings& findings) {
  RegionsToCheck regions;
  CO_TRY_LET(const Copies copies, co_await read_copies(file));
  for (size_t i = 0; i < copies.size(); ++i) check_copy(copies, i, findings);
  compare_copies(copies, findings);
  const std::optional<size_t> chosen = choose(copies);
  if (!chosen) co_return regions;
  const Copy& copy = copies[*chosen];
  const uint64_t table_offset = region_table_offsets[*chosen];
  EntryCheck entries(table_offset, file.size_bytes(), findings);
  for (size_t i = 0; i < copy.header.entry_count; ++i)
    entries.look_at(i, *load<RegionTableEntry>(
                           copy.bytes, sizeof(RegionTableHeader) + i * sizeof(RegionTableEntry)));
  regions.bat = find_region(entries, bat_region, table_offset, findings);
  regions.metadata = find_region(entries, metadata_region, table_offset, findings);
  regions.structures = structures_of(header, entries);
  check_apart(regions.structures, findings);
  co_return regions;
}

}  // namespace vhdkit::vhdx
