// A file that passes everything on: what is derived from to change one thing.
#pragma once

#include "async/file.h"

namespace vhdkit::async {

// The file inside outlives it. Has no descriptor, so that copies take the way through here, too.
class ForwardingFile : public File {
 public:
  explicit ForwardingFile(File& inside) : file_(inside) {}

  const std::string& name() const override { return file_.name(); }
  uint64_t size_bytes() const override { return file_.size_bytes(); }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override {
    return file_.readv(file_offset, buffers);
  }
  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override {
    return file_.writev(file_offset, buffers, durability);
  }
  Async<void> flush() override { return file_.flush(); }
  Result<void> resize(uint64_t size_bytes) override { return file_.resize(size_bytes); }
  Result<std::optional<FileRange>> next_data(uint64_t file_offset, uint64_t end) override {
    return file_.next_data(file_offset, end);
  }
  Result<void> punch_hole(uint64_t file_offset, uint64_t length) override {
    return file_.punch_hole(file_offset, length);
  }
  int descriptor(uint64_t, uint64_t) const override { return -1; }

 protected:
  File& file_;
};

}  // namespace vhdkit::async
