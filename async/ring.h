// The ring of a loop, as it is from its first moment on.
#pragma once

#include <liburing.h>

namespace vhdkit::async {

// Opens a ring that does READ, WRITE, READV, WRITEV, FSYNC, POLL_ADD and TIMEOUT, on descriptors
// that are open: its operations pass by any filter of the kernel's calls (seccomp), so that others,
// and changes of the ring, are refused with EACCES for good (Linux 5.10 and newer). To be used by
// this thread.
//
// Returns: 0; then it is the caller's to close. Negative: what the kernel says, and there is no
// ring. Spec: io_uring_register(2), IORING_REGISTER_RESTRICTIONS.
int open_ring(io_uring& ring, unsigned slot_count) noexcept;

}  // namespace vhdkit::async
