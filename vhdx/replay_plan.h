// What a replay of the log makes of the file, before anything is done.
#pragma once

#include <array>
#include <map>

#include "async/file.h"
#include "vhdx/headers.h"
#include "vhdx/log.h"

namespace vhdkit::vhdx {

// Twice the largest disk: room for its BAT, bitmaps, log and whatever a writer left unused. Nobody
// means a file offset beyond it.
inline constexpr uint64_t max_file_bytes = 2 * max_disk_bytes;

// The bytes that a range of the file gets.
struct Update {
  uint64_t length = 0;   // bytes, multiple of 4 KiB; 4 KiB for data
  bool is_data = false;  // false: zeroes
  // Data: the file offset of its sector in the log, and what stands in place of the sector's own
  // first 8 and last 4 bytes.
  uint64_t sector_offset = 0;
  std::array<std::byte, 8> leading_bytes{};
  std::array<std::byte, 4> trailing_bytes{};
};

// By file offset. Updates lie apart: where entries wrote one place twice, the later one is here.
class Updates {
 public:
  using Map = std::map<uint64_t, Update>;

  // Lays the update over those that are there. REQUIRES: its end does not overflow.
  void put(uint64_t file_offset, const Update& update);
  // The first update that ends behind file_offset; end() where there is none.
  Map::const_iterator ending_after(uint64_t file_offset) const;

  Map::const_iterator begin() const { return map_.begin(); }
  Map::const_iterator end() const { return map_.end(); }

 private:
  Map map_;
};

struct ReplayPlan {
  Updates updates;
  uint64_t file_size_bytes = 0;  // afterwards: no smaller than the file, LastFileOffset, any update

  uint64_t sectors_written() const;
  uint64_t bytes_zeroed() const;
};

// The updates of the active sequence, in order. [MS-VHDX] 2.3.3. file: gives its name and size.
//
// An update may not touch the first MiB (header section) except the region tables, nor the log
// itself: no writer does that, and a hostile one must not change what was validated already.
//
// Errors: corrupt (no sequence is complete; the file is shorter than FlushedFileOffset of the head;
// an update or LastFileOffset at a place that it must not touch, or beyond max_file_bytes).
Result<ReplayPlan> plan_replay(const File& file, const FileHeader& header,
                               const LogContent& content);

}  // namespace vhdkit::vhdx
