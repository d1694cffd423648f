// Changes of an image whose bytes all have their place already: raw files, fixed VHDs.
#pragma once

#include "disk/flusher.h"
#include "disk/layer_writer.h"

namespace vhdkit::disk {

// The disk's first byte is the file's. Loop-bound; the file outlives it.
class InPlaceWriter final : public LayerWriter {
 public:
  explicit InPlaceWriter(File& file) : file_(file), flusher_(file) {}

  std::optional<async::FileRange> in_place(uint64_t disk_offset, uint64_t length) override;
  Async<WritePlace> prepare(uint64_t disk_offset, uint64_t length) override;
  Async<bool> finish(WritePlace place, bool written) override;
  Async<void> zero(uint64_t disk_offset, uint64_t length) override;
  Async<void> flush() override;
  Async<void> close() override { co_return co_await flush(); }

 private:
  File& file_;
  Flusher flusher_;
};

}  // namespace vhdkit::disk
