// The flushes of one file.
#pragma once

#include <optional>

#include "async/file.h"
#include "async/mutex.h"

namespace vhdkit::disk {

// Loop-bound. Linux tells of lost bytes once, whoever flushes next, and says nothing of whose they
// were; and a write that is durable by itself counts as a flush there. So all flushes of the file
// go through here, and no durable write does: the first flush that fails is the last one; and one
// runs at a time, since of two at once only one would fail.
class Flusher {
 public:
  // The file outlives it.
  explicit Flusher(File& file) : file_(file) {}

  // Everything that was written before this call is durable. Calls at one time share the work.
  // Errors: what the first one that failed said.
  Async<void> flush();
  const std::optional<Error>& error() const { return error_; }

 private:
  File& file_;
  async::Mutex flushing_;
  uint64_t begun_count_ = 0;
  std::optional<Error> error_;
};

}  // namespace vhdkit::disk
