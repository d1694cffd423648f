// A file that breaks a promise of the VHDX writer on purpose, so that the crash test can show that
// it would see it.
#pragma once

#include <memory>
#include <set>
#include <string_view>

#include "async/forwarding_file.h"

namespace vhdkit::tests {

enum class Sabotage {
  none,
  no_log_flush,     // the flush behind a log entry does nothing
  apply_first,      // the pages of a log entry are in their places before the entry is durable
  no_bitmap_write,  // pages of sector bitmaps are never put in their places
};

// Errc::invalid_argument for other names than none, no-log-flush, apply-first, no-bitmap-write.
Result<Sabotage> parse_sabotage(std::string_view name);

// Loop-bound. Between a VHDX layer and its file; the file outlives it.
class SabotagedFile final : public async::ForwardingFile {
 public:
  SabotagedFile(File& file, Sabotage sabotage) : ForwardingFile(file), sabotage_(sabotage) {}

  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override;
  Async<void> flush() override;

 private:
  Async<void> put_pages(std::span<const std::byte> entry);

  Sabotage sabotage_;
  bool log_was_written_ = false;     // since the last flush
  std::set<uint64_t> bitmap_pages_;  // of the last log entry
};

}  // namespace vhdkit::tests
