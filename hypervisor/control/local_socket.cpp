#include "hypervisor/control/local_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "tools/local_address.h"

namespace vhdkit::hypervisor {

using tools::generic;
using tools::local_address;

namespace {

constexpr auto pause_without_descriptors = std::chrono::milliseconds(100);

Descriptor new_socket() {
  return Descriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// Whoever made the socket was killed: nobody listens there any more.
bool is_left_behind(const sockaddr_un& address) {
  const Descriptor probe = new_socket();
  return ::connect(probe.number(), generic(address), sizeof address) != 0 && errno == ECONNREFUSED;
}

bool is_socket(const std::string& path) {
  struct stat status{};
  return lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

}  // namespace

LocalListener::LocalListener(Descriptor socket, std::string path)
    : socket_(std::move(socket)), path_(std::move(path)) {
  struct stat status{};
  if (lstat(path_.c_str(), &status) != 0) return;
  device_ = status.st_dev;
  file_ = status.st_ino;
}

LocalListener& LocalListener::operator=(LocalListener&& other) noexcept {
  std::swap(socket_, other.socket_);
  std::swap(path_, other.path_);
  std::swap(device_, other.device_);
  std::swap(file_, other.file_);
  return *this;
}

LocalListener::~LocalListener() {
  struct stat status{};
  if (!is_open() || lstat(path_.c_str(), &status) != 0) return;
  if (status.st_dev == device_ && status.st_ino == file_) unlink(path_.c_str());
}

Descriptor LocalListener::accept() const {
  Descriptor client(accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.is_open() && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
    std::this_thread::sleep_for(pause_without_descriptors);
  return client;
}

Result<LocalListener> LocalListener::at(const std::string& path, const ListenOptions& options) {
  TRY_LET(const sockaddr_un address, local_address(path));
  if (is_socket(path) && is_left_behind(address)) unlink(path.c_str());
  Descriptor listener = new_socket();
  // Linux gives a socket's file the mode of the socket, less the umask: unix(7) and umask(2).
  const bool has_mode = listener.is_open() && (!options.mode.has_value() ||
                                               fchmod(listener.number(), *options.mode) == 0);
  if (!has_mode || bind(listener.number(), generic(address), sizeof address) != 0 ||
      ::listen(listener.number(), options.backlog) != 0)
    return fail_errno(errno, "a socket to listen on");
  return LocalListener(std::move(listener), path);
}

}  // namespace vhdkit::hypervisor
