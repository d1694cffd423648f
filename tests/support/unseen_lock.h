// A lock whose holder nobody can find, as that of another user's process or of a dying one.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>

namespace vhdkit::tests {

// The file's description is on its way through a socket, where no process has it.
class UnseenLock {
 public:
  // On the byte with which QEMU's writers say that they write.
  explicit UnseenLock(const std::string& path) {
    const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    REQUIRE(fcntl(descriptor, F_OFD_SETLK, &lock) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends_) == 0);
    send(descriptor);
    close(descriptor);
  }
  UnseenLock(const UnseenLock&) = delete;
  UnseenLock& operator=(const UnseenLock&) = delete;
  ~UnseenLock() { release(); }

  void release() {
    for (int& end : ends_) {
      if (end >= 0) close(end);
      end = -1;
    }
  }

 private:
  void send(int descriptor) {
    char byte = 0;
    iovec vector{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    REQUIRE(sendmsg(ends_[0], &message, 0) == 1);
  }

  int ends_[2] = {-1, -1};
};

}  // namespace vhdkit::tests
