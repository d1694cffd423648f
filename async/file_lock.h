// The locks that keep a writer of a file apart from everybody else.
#pragma once

#include <chrono>
#include <string>

#include "support/result.h"

namespace vhdkit::async {

enum class LockUse {
  reading,  // together with other readers
  writing,  // alone
};

// Takes locks for the descriptor's open file description, until unlock(). They stand on the bytes
// that QEMU uses (its block/file-posix.c), so its programs and these respect each other; a lock of
// the whole file by fcntl(2) counts too. Programs that take none are not kept out.
//
// A holder whom nobody sees is waited for: the caller tries again, after a pause, until it is told
// that it is enough (3 s). A process that was killed keeps its locks until the kernel has taken
// down its io_uring: on a busy machine more than half a second.
class LockAttempts {
 public:
  static constexpr std::chrono::milliseconds pause{10};

  // name: outlives it.
  LockAttempts(LockUse use, int descriptor, const std::string& name)
      : use_(use), descriptor_(descriptor), name_(name) {}

  // Returns: whether they are taken. Errors: busy, naming the process that holds the file where the
  // system tells; what fcntl refuses, for writing. A file system that has no locks does not keep
  // anybody from reading.
  Result<bool> try_once();

 private:
  LockUse use_;
  int descriptor_;
  const std::string& name_;
  int count_ = 0;
};

// To be called before the descriptor is closed. Closing gives the locks back only when nobody has
// the description any more, and io_uring may: what the kernel's workers have done for a ring is let
// go of when the ring's thread enters the kernel for it the next time, which may be never.
void unlock(int descriptor) noexcept;

}  // namespace vhdkit::async
