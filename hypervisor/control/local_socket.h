// Unix sockets that programs on this machine connect to.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "support/descriptor.h"
#include "support/result.h"

namespace vhdkit::hypervisor {

struct ListenOptions {
  int backlog = 1;             // clients that wait to be accepted
  std::optional<mode_t> mode;  // of the socket's file, from its first moment on; else by the umask
};

// Listens at the path, without blocking. A socket there whose program was killed, so that nobody
// listens any more, is taken over; anything else there stays, and is an error. Whoever closes the
// socket removes the file. Errors: invalid_argument (too long for a socket's name); those of the
// system.
Result<Descriptor> listen_at(const std::string& path, const ListenOptions& options);

}  // namespace vhdkit::hypervisor
