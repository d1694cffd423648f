// The lock that keeps two writers of one file apart.
#pragma once

#include <string>

#include "support/result.h"

namespace vhdkit::async {

// Takes an exclusive lock of the whole file for the descriptor's open file description; closing it
// gives the lock back. It excludes every lock of fcntl(2) on any part of the file, such as QEMU's;
// programs that take none are not kept out.
// Errors: busy, naming the process that holds the file where the system tells; what fcntl refuses.
Result<void> lock_exclusively(int descriptor, const std::string& name);

}  // namespace vhdkit::async
