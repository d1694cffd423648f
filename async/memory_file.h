// A sparse file in memory: what tests and fuzzers give to code that wants a File.
#pragma once

#include <array>
#include <map>

#include "async/file.h"

namespace vhdkit::async {

// Loop-bound. Never suspends. Pages of 4 KiB that were never written are holes. Copies share their
// pages until one of them is written, so a copy costs little.
class MemoryFile final : public File {
 public:
  static constexpr size_t page_bytes = 4096;

  explicit MemoryFile(std::string name, std::span<const std::byte> content = {});

  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override;
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override;
  Async<void> flush() override;
  Result<void> resize(uint64_t size_bytes) override;
  Result<std::optional<FileRange>> next_data(uint64_t file_offset, uint64_t end) override;
  Result<void> punch_hole(uint64_t file_offset, uint64_t length) override;
  int descriptor(uint64_t, uint64_t) const override { return -1; }

  MemoryFile(const MemoryFile& other)
      : name_(other.name_), size_bytes_(other.size_bytes_), pages_(other.pages_) {}

  // For tests, without a loop. Writing past the end makes the file longer.
  void store(uint64_t file_offset, std::span<const std::byte> bytes);
  // Bytes outside the file read as zero.
  void fetch(uint64_t file_offset, std::span<std::byte> buffer) const;
  uint64_t write_count() const { return write_count_; }

  // From now on the n-th write (counted from 0) and all later ones fail with ENOSPC.
  void fail_writes_from(uint64_t n) { failing_from_ = write_count_ + n; }

 private:
  using Page = std::array<std::byte, page_bytes>;
  static Page& own(std::shared_ptr<Page>& page);

  std::string name_;
  uint64_t size_bytes_ = 0;
  uint64_t write_count_ = 0;
  uint64_t failing_from_ = UINT64_MAX;
  std::map<uint64_t, std::shared_ptr<Page>> pages_;  // by page index
};

}  // namespace vhdkit::async
