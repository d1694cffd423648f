#include "hypervisor/control/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "hypervisor/control/commands.h"

namespace vhdkit::hypervisor {
namespace {

constexpr size_t read_bytes = 4096;

bool must_wait() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

}  // namespace

short Connection::events() const {
  if (!unsent_.empty()) return POLLOUT;
  return has_ended_ ? 0 : POLLIN;
}

bool Connection::serve(Controls& controls) {
  if (unsent_.empty()) {
    if (!has_line() && !receive()) return false;
    if (has_line()) answer_line(controls);
  }
  if (!send()) return false;
  return !has_ended_ || !unsent_.empty() || has_line();
}

bool Connection::send() {
  while (!unsent_.empty()) {
    const ssize_t count = ::send(socket_.number(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
    if (count < 0) return must_wait();
    unsent_.erase(0, size_t(count));
  }
  return true;
}

// False: nobody is there any more. A client that only says no more still wants its answers.
bool Connection::receive() {
  std::array<char, read_bytes> buffer;
  const ssize_t count = ::recv(socket_.number(), buffer.data(), buffer.size(), 0);
  if (count < 0) return must_wait();
  has_ended_ = count == 0;
  input_.append(buffer.data(), size_t(count));
  skip_long_line();
  return true;
}

// Of a line that is too long nothing is kept, however it goes on.
void Connection::skip_long_line() {
  const size_t end = input_.find('\n');
  if (is_skipping_) {
    is_skipping_ = end == std::string::npos;
    input_.erase(0, is_skipping_ ? end : end + 1);
  } else if (end == std::string::npos && input_.size() > limits_.max_line_bytes) {
    is_skipping_ = true;
    input_.clear();
    refuse_long_line();
  }
}

void Connection::answer_line(Controls& controls) {
  const size_t end = input_.find('\n');
  const std::string line = input_.substr(0, end);
  input_.erase(0, end + 1);
  if (line.size() > limits_.max_line_bytes) return refuse_long_line();
  unsent_ = answer_to(line, controls) + "\n";
}

void Connection::refuse_long_line() {
  unsent_ =
      error_line("bad-request", "a line has at most " + std::to_string(limits_.max_line_bytes) +
                                    " bytes; this one was not read") +
      "\n";
}

}  // namespace vhdkit::hypervisor
