// A target that cannot seek: standard output, a pipe.
#pragma once

#include "async/file.h"
#include "image/progress.h"

namespace vhdkit::image {

// Blocks until a descriptor that does not block has room or bytes (POLLOUT, POLLIN), or a signal
// comes.
void wait_until_ready(int descriptor, short events);

// Fills what the writer of a stream leaves out: the payload between pieces of metadata.
class GapFiller {
 public:
  virtual ~GapFiller() = default;
  // Writes [file_offset, file_offset + length) to the stream, in order.
  virtual Async<void> fill(uint64_t file_offset, uint64_t length) = 0;
};

// Takes writes in ascending order; what lies between two of them comes from the gap filler. Reads
// fail.
class StreamFile final : public File {
 public:
  // The descriptor stays the caller's. progress: asked whether it is cancelled when a signal
  // interrupts a write; may be null.
  StreamFile(int descriptor, std::string name, const Progress* progress);

  void set_gap_filler(GapFiller* filler) { filler_ = filler; }
  // Appends, for the gap filler. Blocks while the reader is slow.
  Result<void> append(std::span<const std::byte> bytes);
  Result<void> append_zeroes(uint64_t length);

  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return position_; }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override;
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override;
  Async<void> flush() override;
  // Only remembers the size: the stream reaches it with finish().
  Result<void> resize(uint64_t size_bytes) override;
  Async<void> finish() { return fill_to(final_size_); }
  Result<std::optional<async::FileRange>> next_data(uint64_t file_offset, uint64_t end) override;
  Result<void> punch_hole(uint64_t file_offset, uint64_t length) override;
  int descriptor(uint64_t, uint64_t) const override { return -1; }

 private:
  Async<void> fill_to(uint64_t file_offset);

  int descriptor_;
  std::string name_;
  const Progress* progress_;
  uint64_t position_ = 0;
  uint64_t final_size_ = 0;
  GapFiller* filler_ = nullptr;
};

}  // namespace vhdkit::image
