// A file that passes for raw because it looks like nothing else, and has to stay so.
#pragma once

#include <memory>
#include <vector>

#include "async/forwarding_file.h"
#include "async/mutex.h"

namespace vhdkit::image {

// Passes everything on but writes after which probe() would take the file for something else: they
// fail with Errc::permission, and change nothing. Otherwise a guest could write itself the header
// of a differencing image, whose parent is any file that whoever opens it next may read. A user who
// says that the file is raw needs none of this.
//
// What resize() does to the ends is for who calls it.
class GuessedRawFile final : public async::ForwardingFile {
 public:
  explicit GuessedRawFile(std::unique_ptr<File> inside)
      : ForwardingFile(*inside), inside_(std::move(inside)) {}

  Async<void> writev(uint64_t file_offset, Buffers buffers, Durability durability) override;
  int descriptor(uint64_t file_offset, uint64_t length) const override {
    return inside_->descriptor(file_offset, length);
  }

 private:
  Async<void> write_an_end(uint64_t file_offset, Buffers buffers, Durability durability);
  Async<std::vector<std::byte>> later_content(async::FileRange range, uint64_t file_offset,
                                              Buffers buffers);

  std::unique_ptr<File> inside_;
  async::Mutex ends_;  // two writes that are harmless alone could make a header together
};

}  // namespace vhdkit::image
