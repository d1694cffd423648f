// A file that counts what is asked of it, and fails where a test wants it to.
#pragma once

#include <cerrno>
#include <memory>
#include <optional>

#include "async/forwarding_file.h"

namespace vhdkit::tests {

// Passes everything on to the file inside. A transfer that fails did happen, and fails only when it
// ended: with a file of the system, later than others that were started after it.
class WatchedFile final : public async::ForwardingFile {
 public:
  explicit WatchedFile(std::unique_ptr<File> inside)
      : ForwardingFile(*inside), inside_(std::move(inside)) {}

  Async<void> readv(uint64_t file_offset, Buffers buffers) override {
    const uint64_t index = read_count++;
    const Result<void> result = co_await file_.readv(file_offset, buffers);
    if (index == failing_read) co_return fail_errno(EIO, name() + ": reading");
    co_return result;
  }
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override {
    const uint64_t index = write_count++;
    const Result<void> result = co_await file_.writev(file_offset, buffers, durability);
    if (index == failing_write) co_return fail_errno(ENOSPC, name() + ": writing");
    co_return result;
  }
  Result<std::optional<async::FileRange>> next_data(uint64_t file_offset, uint64_t end) override {
    ++next_data_count;
    return file_.next_data(file_offset, end);
  }

  uint64_t read_count = 0;
  uint64_t write_count = 0;
  uint64_t next_data_count = 0;
  std::optional<uint64_t> failing_read;   // which of them, counted from 0
  std::optional<uint64_t> failing_write;  // the same

 private:
  std::unique_ptr<File> inside_;
};

}  // namespace vhdkit::tests
