#include "vhdx/log_entry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "support/crc32c.h"

namespace vhdkit::vhdx {
namespace {

using Damage = std::optional<std::string>;

constexpr bool is_sector_aligned(uint64_t value) { return is_aligned(value, log_sector_bytes); }

uint64_t descriptor_sectors(uint64_t descriptor_count) {
  if (descriptor_count <= first_sector_descriptors) return 1;
  return 1 + ceil_div(descriptor_count - first_sector_descriptors, sector_descriptors);
}

Damage place_damage(uint64_t file_offset, uint64_t length) {
  if (!is_sector_aligned(file_offset))
    return fmt::format("FileOffset {:#x} is no multiple of 4096", file_offset);
  if (!is_sector_aligned(length))
    return fmt::format("ZeroLength {:#x} is no multiple of 4096", length);
  return std::nullopt;
}

}  // namespace

Damage entry_header_damage(const EntryCandidate& candidate, const FileHeader& header) {
  const LogEntryHeader& raw = candidate.raw;
  if (Guid::from_stored(raw.log_guid) != header.log_guid)
    return fmt::format("LogGuid {} is another log's", Guid::from_stored(raw.log_guid).to_string());
  if (raw.sequence_number == 0) return "SequenceNumber is 0";
  const uint32_t length = raw.entry_length;
  if (length == 0 || !is_sector_aligned(length) || length > header.log_length)
    return fmt::format("EntryLength {:#x} is no multiple of 4096 from 0x1000 to the log's {:#x}",
                       length, header.log_length);
  if (length > candidate.room)
    return fmt::format("EntryLength {:#x} reaches over the entry at {:#x}", length,
                       (candidate.log_offset + candidate.room) % header.log_length);
  if (!is_sector_aligned(raw.tail) || raw.tail >= header.log_length)
    return fmt::format("Tail {:#x} is no multiple of 4096 below the log's length {:#x}",
                       uint32_t(raw.tail), header.log_length);
  const uint32_t count = raw.descriptor_count;
  if (descriptor_sectors(count) > length / log_sector_bytes)
    return fmt::format("DescriptorCount {} does not fit into EntryLength {:#x}", count, length);
  return std::nullopt;
}

EntryParser::EntryParser(const EntryCandidate& candidate, uint64_t log_length)
    : log_length_(log_length),
      descriptor_count_(candidate.raw.descriptor_count),
      checksum_(candidate.raw.checksum) {
  entry_ = {.log_offset = candidate.log_offset,
            .length = candidate.raw.entry_length,
            .tail = candidate.raw.tail,
            .sequence_number = candidate.raw.sequence_number,
            .log_guid = Guid::from_stored(candidate.raw.log_guid),
            .flushed_file_offset = candidate.raw.flushed_file_offset,
            .last_file_offset = candidate.raw.last_file_offset,
            .descriptors = {}};
}

uint64_t EntryParser::descriptor_sector_count() const {
  return descriptor_sectors(descriptor_count_);
}

Damage EntryParser::take(std::span<const std::byte, log_sector_bytes> sector) {
  assert(taken_count_ < sector_count());
  const uint64_t index = taken_count_++;
  if (index > 0) {
    computed_ = crc32c(sector, computed_);
    return index < descriptor_sector_count() ? take_descriptors(sector) : take_data(sector);
  }
  constexpr std::array<std::byte, sizeof(le32)> no_checksum{};
  constexpr size_t at = offsetof(LogEntryHeader, checksum);
  computed_ = crc32c(sector.first(at));
  computed_ = crc32c(no_checksum, computed_);
  computed_ = crc32c(sector.subspan(at + no_checksum.size()), computed_);
  return take_descriptors(sector.subspan(sizeof(LogEntryHeader)));
}

Damage EntryParser::take_descriptors(std::span<const std::byte> bytes) {
  while (!bytes.empty() && entry_.descriptors.size() < descriptor_count_) {
    if (Damage damage = take_descriptor(bytes.first(sizeof(DataDescriptor))))
      return fmt::format("descriptor {}: {}", entry_.descriptors.size(), *damage);
    bytes = bytes.subspan(sizeof(DataDescriptor));
  }
  const uint64_t room = sector_count() - descriptor_sector_count();
  if (taken_count_ == descriptor_sector_count() && data_count_ != room)
    return fmt::format("{} data descriptors, but EntryLength {:#x} has room for {} data sectors",
                       data_count_, entry_.length, room);
  return std::nullopt;
}

Damage EntryParser::take_descriptor(std::span<const std::byte> bytes) {
  const DataDescriptor data = *load<DataDescriptor>(bytes);
  const ZeroDescriptor zero = *load<ZeroDescriptor>(bytes);
  LogDescriptor descriptor{.kind = LogDescriptor::Kind::zero,
                           .file_offset = zero.file_offset,
                           .length = zero.zero_length};
  if (data.signature == data_descriptor_signature) {
    const uint64_t sector_index = descriptor_sector_count() + data_count_++;
    descriptor = {
        .kind = LogDescriptor::Kind::data,
        .file_offset = data.file_offset,
        .length = log_sector_bytes,
        .sector_offset = (entry_.log_offset + sector_index * log_sector_bytes) % log_length_,
        .leading_bytes = data.leading_bytes,
        .trailing_bytes = data.trailing_bytes};
  } else if (zero.signature != zero_descriptor_signature) {
    return fmt::format("signature {:#x} is neither \"desc\" nor \"zero\"",
                       uint32_t(data.signature));
  }
  if (Damage damage = sequence_damage(data.sequence_number)) return damage;
  if (Damage damage = place_damage(descriptor.file_offset, descriptor.length)) return damage;
  entry_.descriptors.push_back(descriptor);
  return std::nullopt;
}

Damage EntryParser::take_data(std::span<const std::byte> bytes) const {
  const LogDataSector sector = *load<LogDataSector>(bytes);
  const uint64_t index = taken_count_ - 1 - descriptor_sector_count();
  if (sector.signature != data_sector_signature)
    return fmt::format("data sector {}: signature {:#x} is not \"data\"", index,
                       uint32_t(sector.signature));
  if (Damage damage =
          sequence_damage(uint64_t{sector.sequence_high} << 32 | uint64_t{sector.sequence_low}))
    return fmt::format("data sector {}: {}", index, *damage);
  return std::nullopt;
}

Damage EntryParser::sequence_damage(uint64_t sequence_number) const {
  if (sequence_number == entry_.sequence_number) return std::nullopt;
  return fmt::format("SequenceNumber {} should be the entry's {}", sequence_number,
                     entry_.sequence_number);
}

Damage EntryParser::finish() const {
  assert(taken_count_ == sector_count());
  if (computed_ == checksum_) return std::nullopt;
  return fmt::format("checksum {:#x} should be {:#x}", checksum_, computed_);
}

}  // namespace vhdkit::vhdx
