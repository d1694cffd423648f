// The log: its entries, and the sequence that a replay takes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "async/file.h"
#include "support/guid.h"
#include "vhdx/format.h"
#include "vhdx/headers.h"

namespace vhdkit::vhdx {

// A descriptor of a valid entry. [MS-VHDX] 2.3.1.2, 2.3.1.3.
struct LogDescriptor {
  enum class Kind : uint8_t { zero, data };
  Kind kind;
  uint64_t file_offset;  // bytes, multiple of 4 KiB: where the update belongs
  uint64_t length;       // bytes, multiple of 4 KiB; 4 KiB for data
  // Data: where in the log its data sector lies, bytes from the log's start (below its length).
  uint64_t sector_offset = 0;
  std::array<std::byte, 8> leading_bytes{};
  std::array<std::byte, 4> trailing_bytes{};
};

// An entry whose every field, descriptor, data sector and checksum was found valid.
struct LogEntry {
  uint64_t log_offset = 0;  // bytes from the log's start
  uint64_t length = 0;      // bytes; it may go on at the log's start
  uint64_t tail = 0;        // bytes from the log's start
  uint64_t sequence_number = 0;
  Guid log_guid;
  uint64_t flushed_file_offset = 0;  // bytes
  uint64_t last_file_offset = 0;     // bytes
  std::vector<LogDescriptor> descriptors;
};

// Something with an entry's signature that is none; for people.
struct LogFragment {
  uint64_t log_offset = 0;       // bytes from the log's start
  uint64_t sequence_number = 0;  // as stored
  std::string damage;            // a clause: "checksum 0x… should be 0x…", "another log's GUID"
};

struct LogContent {
  // Valid entries of this log's GUID in the order of their place; those of the active sequence are
  // named by `active`, tail first, as indices into this.
  std::vector<LogEntry> entries;
  std::vector<size_t> active;
  std::vector<LogFragment> fragments;

  bool has_active_sequence() const { return !active.empty(); }
  const LogEntry& head() const { return entries[active.back()]; }
};

// Reads the whole log and finds the active sequence: the valid and complete one with the largest
// sequence number, from its head's tail to its head. [MS-VHDX] 2.3.2, 2.3.3. An empty log GUID
// finds nothing.
//
// No byte of the log is read more than twice, holes of the file not at all; memory is a few MiB and
// what the entries' own bytes justify: a descriptor for 32 of them, a fragment for 4 KiB. Whatever
// is damaged is a fragment, not an error.
// Errors: corrupt (the log does not lie inside the file); io.
Async<LogContent> read_log(File& file, const FileHeader& header);

}  // namespace vhdkit::vhdx
