// One entry of the log, validated sector by sector.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "vhdx/headers.h"
#include "vhdx/log.h"

namespace vhdkit::vhdx {

// A place in the log that begins like an entry.
struct EntryCandidate {
  uint64_t log_offset = 0;  // bytes from the log's start
  uint64_t room = 0;        // bytes to the next candidate, around the log's end
  LogEntryHeader raw;
};

// What is wrong with the header's own fields; nothing where they are valid. [MS-VHDX] 2.3.1.1.
//
// An entry longer than its room is damaged: no sector of a valid entry but its first begins with an
// entry's signature. So the entries that pass lie apart from each other, and validating all of them
// reads no byte twice, whatever the log's content is.
std::optional<std::string> entry_header_damage(const EntryCandidate& candidate,
                                               const FileHeader& header);

// Takes an entry's sectors in their order: the header's, those of the other descriptors, data.
// [MS-VHDX] 2.3.1.
class EntryParser {
 public:
  // REQUIRES: entry_header_damage() found nothing.
  EntryParser(const EntryCandidate& candidate, uint64_t log_length);

  uint64_t length() const { return entry_.length; }
  // What is wrong with the next sector; nothing where it is valid. After damage no more is taken.
  std::optional<std::string> take(std::span<const std::byte, log_sector_bytes> sector);
  // What is wrong with the whole. REQUIRES: length() bytes were taken.
  std::optional<std::string> finish() const;
  // REQUIRES: finish() found nothing. Once only.
  LogEntry take_entry() { return std::move(entry_); }

 private:
  uint64_t descriptor_sector_count() const;
  uint64_t sector_count() const { return entry_.length / log_sector_bytes; }
  std::optional<std::string> take_descriptors(std::span<const std::byte> bytes);
  std::optional<std::string> take_descriptor(std::span<const std::byte> bytes);
  std::optional<std::string> take_data(std::span<const std::byte> bytes) const;
  std::optional<std::string> sequence_damage(uint64_t sequence_number) const;

  LogEntry entry_;
  uint64_t log_length_;
  uint64_t descriptor_count_;
  uint64_t data_count_ = 0;   // data descriptors so far
  uint64_t taken_count_ = 0;  // sectors
  uint32_t checksum_;         // as stored
  uint32_t computed_ = 0;     // of the sectors so far
};

}  // namespace vhdkit::vhdx
