// Addresses of sockets in the file system.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "support/result.h"

namespace vhdkit::tools {

// Errors: invalid_argument, which does not name the path: it is longer than an address can be.
// Spec: unix(7).
inline Result<sockaddr_un> local_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Errc::invalid_argument, "is too long for a socket's name");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

inline const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace vhdkit::tools
