// The locks that keep a writer of a file apart from everybody else.
#pragma once

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
// Errors: busy, naming the process that holds the file where the system tells; what fcntl refuses,
// for writing. A file system that has no locks does not keep anybody from reading.
Result<void> lock_for(LockUse use, int descriptor, const std::string& name);

// To be called before the descriptor is closed. Closing gives the locks back only when nobody has
// the description any more, and io_uring may: what the kernel's workers have done for a ring is let
// go of when the ring's thread enters the kernel for it the next time, which may be never.
void unlock(int descriptor) noexcept;

}  // namespace vhdkit::async
