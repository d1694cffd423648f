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

// Listens at a path, without blocking. The socket's file goes with it, unless another one has taken
// its place, or the process, which may have become somebody else, has no right to remove it.
class LocalListener {
 public:
  // A socket there whose program was killed, so that nobody listens any more, is taken over;
  // anything else there stays, and is an error. Errors: invalid_argument (too long for a socket's
  // name); those of the system.
  static Result<LocalListener> at(const std::string& path, const ListenOptions& options);

  LocalListener() = default;
  LocalListener(LocalListener&& other) noexcept = default;
  LocalListener& operator=(LocalListener&& other) noexcept;
  ~LocalListener();

  // The next client, which does not block either; none is open where nobody waits any more, or,
  // after a moment, where a client cannot be had for want of descriptors or memory: it stays, and
  // keeps the listener ready.
  Descriptor accept() const;

  int number() const { return socket_.number(); }
  bool is_open() const { return socket_.is_open(); }

 private:
  LocalListener(Descriptor socket, std::string path);

  Descriptor socket_;
  std::string path_;
  dev_t device_ = 0;  // of the file
  ino_t file_ = 0;
};

}  // namespace vhdkit::hypervisor
