// A file in memory that remembers what a crash could take away.
#pragma once

#include <functional>
#include <vector>

#include "async/memory_file.h"
#include "async/sim_loop.h"

namespace vhdkit::async {

// Loop-bound, on a simulated loop. Behaves as a file behind a write-back cache: what was written is
// read back at once and is durable only after a flush that was called when the write had completed.
class SimFile final : public File {
 public:
  static constexpr uint64_t sector_bytes = 512;  // what a crash does not tear

  enum class Access : uint8_t { read, write, flush, resize, punch };
  // Asked before every operation; 0 lets it pass, else it fails with that errno. A write that fails
  // has written some of its first sectors, or none, or all.
  using Fault = std::function<int(Access access, uint64_t file_offset, uint64_t length)>;

  // content: durable from the beginning. Both loop and file outlive what runs on them.
  SimFile(SimLoop& loop, MemoryFile content);

  const std::string& name() const override { return current_.name(); }
  uint64_t size_bytes() const override { return current_.size_bytes(); }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override;
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override;
  Async<void> flush() override;
  Result<void> resize(uint64_t size_bytes) override;
  Result<std::optional<FileRange>> next_data(uint64_t file_offset, uint64_t end) override;
  Result<void> punch_hole(uint64_t file_offset, uint64_t length) override;
  int descriptor(uint64_t, uint64_t) const override { return -1; }

  void set_fault(Fault fault) { fault_ = std::move(fault); }

  // One of the contents that the file may have after a crash now: any of the changes since the last
  // flush, those in flight included, kept or lost, whole or by sectors, in any order; growth that
  // did or did not happen.
  MemoryFile crash_state(std::mt19937_64& random) const;
  // The content without a crash.
  const MemoryFile& content() const { return current_; }
  uint64_t flush_count() const { return flush_count_; }
  uint64_t write_count() const { return write_count_; }

 private:
  // A change that is not durable. Empty bytes: zeroes.
  struct Change {
    uint64_t id;
    uint64_t file_offset;
    uint64_t length;
    std::vector<std::byte> bytes;
    uint64_t size_after;  // of the file
    bool completed = false;
  };

  Result<void> ask(Access access, uint64_t file_offset, uint64_t length);
  Change& begin(uint64_t file_offset, uint64_t length, std::vector<std::byte> bytes);
  void complete(uint64_t id);
  void fail(uint64_t id);
  std::vector<uint64_t> completed_ids() const;
  void make_durable(const std::vector<uint64_t>& ids);
  void forget_under(FileRange range, const std::vector<uint64_t>& earlier);
  static Change part_of(const Change& change, uint64_t from, uint64_t to);
  static void apply(const Change& change, uint64_t from, uint64_t to, MemoryFile& file);

  SimLoop& loop_;
  MemoryFile current_;
  MemoryFile durable_;
  std::vector<Change> changes_;  // in the order in which they completed, or else began
  uint64_t next_id_ = 0;
  uint64_t flush_count_ = 0;
  uint64_t write_count_ = 0;
  Fault fault_;
};

}  // namespace vhdkit::async
