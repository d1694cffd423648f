// Entries of the log, written.
#pragma once

#include <span>
#include <vector>

#include "disk/table_pieces.h"
#include "vhdx/headers.h"

namespace vhdkit::vhdx {

// What the first sector of an entry has room for, so that an entry has one descriptor sector, and
// so that two of them fit into the smallest log.
inline constexpr size_t max_entry_pages = first_sector_descriptors;
static_assert(2 * (max_entry_pages + 1) * log_sector_bytes <= alignment_bytes);

// Of the file, when an entry is written; bytes, multiples of 1 MiB. [MS-VHDX] 2.3.1.1.
struct FileEnds {
  uint64_t flushed;  // the file's size, durably: a replay refuses a file that is shorter
  uint64_t last;     // every allocated structure lies below: a replay makes the file this long
};

// Puts zeroes behind the file's end up to a whole MiB, durably: before the first entry, which can
// tell no other size.
Async<void> align_end(File& file);

// The whole entry, with its checksum: a data descriptor for each page, a zero descriptor for pages
// of zeroes that follow each other. It is its own tail. [MS-VHDX] 2.3.1.
// REQUIRES: 1 to max_entry_pages pages of 4 KiB, in the order of the file.
std::vector<std::byte> build_log_entry(std::span<const disk::ChangedPage> pages,
                                       const Guid& log_guid, uint64_t sequence_number,
                                       uint64_t log_offset, FileEnds ends);

// Loop-bound; the file outlives it. Every entry is its own tail, so it alone is replayed: the
// changes of those before it must be durable in their places. The last two entries never share a
// sector of the log, so a torn entry leaves the one before it whole.
class LogWriter {
 public:
  // REQUIRES: a log of at least 1 MiB.
  LogWriter(File& file, const FileHeader& header) : file_(file), header_(header) {}

  const Guid& guid() const { return guid_; }
  // Returns when the entry is durable. Errors: io, no_space.
  Async<void> write(std::span<const disk::ChangedPage> pages, FileEnds ends);

 private:
  File& file_;
  FileHeader header_;  // for the log's place
  Guid guid_ = Guid::random();
  uint64_t sequence_number_ = 0;  // of the last entry
  uint64_t next_offset_ = 0;      // from the log's start
};

}  // namespace vhdkit::vhdx
