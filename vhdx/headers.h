// The File Type Identifier and the two headers: read, validated, and the choice between them.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "async/file.h"
#include "support/guid.h"
#include "vhdx/format.h"

namespace vhdkit::vhdx {

// A header whose fields were found valid.
struct FileHeader {
  uint64_t sequence_number = 0;
  Guid file_write_guid;
  Guid data_write_guid;
  Guid log_guid;            // zero: the log is empty
  uint64_t log_offset = 0;  // bytes
  uint64_t log_length = 0;  // bytes

  bool log_is_empty() const { return log_guid.is_zero(); }
};

// Why a header is not valid; nothing where it is: signature and checksum. [MS-VHDX] 2.2.2.
// bytes: 4 KiB. The text is a clause for people: "checksum 0x1234 should be 0x5678".
std::optional<std::string> header_damage(const Header& raw);
FileHeader header_values(const Header& raw);
// With its checksum.
Header build_header(const FileHeader& header);

struct FoundHeaders {
  FileHeader current;
  unsigned current_index = 0;         // 0 at 64 KiB, 1 at 128 KiB
  std::array<std::string, 2> damage;  // why a header is not valid; empty where it is
  std::string creator;                // of the File Type Identifier; for people only
};

// Reads the first 192 KiB's structures and chooses the current header: the valid one with the
// larger sequence number; the first of two that are the same in every byte ("Disk2VHD" leaves
// such). [MS-VHDX] 2.2.1, 2.2.2. Messages begin with the file's name. Errors: corrupt (no VHDX
// signature; no valid header; two valid ones with one sequence number and different content; a log
// that is not aligned, lies in the header section or outside the file); unsupported (version other
// than 1; log version other than 0 while the log is not empty); io.
Async<FoundHeaders> read_headers(File& file);

// Makes headers.current the content of both headers, with a flush after each: the one that is not
// current first, so one of them is whole at any moment. [MS-VHDX] 2.2.2.1. REQUIRES: room for two
// more sequence numbers.
Async<void> write_headers(File& file, FoundHeaders& headers);
// Whether the sequence numbers have room for all updates of a session. Errors: corrupt.
Result<void> check_sequence_room(const File& file, const FoundHeaders& headers);

}  // namespace vhdkit::vhdx
