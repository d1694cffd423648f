#include "async/ring.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "tests/support/programs.h"

namespace vhdkit::async {
namespace {

class OpenRing {
 public:
  OpenRing() : error_(open_ring(ring_, 4)) {}
  OpenRing(const OpenRing&) = delete;
  OpenRing& operator=(const OpenRing&) = delete;
  ~OpenRing() {
    if (error_ == 0) io_uring_queue_exit(&ring_);
  }

  int error() const { return error_; }
  int descriptor() const { return ring_.ring_fd; }

  // What one operation returns that prepare() has filled in.
  template <class Prepare>
  int result_of(Prepare prepare) {
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    REQUIRE(sqe != nullptr);
    prepare(sqe);
    REQUIRE(io_uring_submit_and_wait(&ring_, 1) == 1);
    io_uring_cqe* cqe = nullptr;
    REQUIRE(io_uring_peek_cqe(&ring_, &cqe) == 0);
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    return result;
  }

 private:
  io_uring ring_{};
  int error_;
};

// False, and named, where the kernel has no rings for us.
bool is_there(const OpenRing& ring) {
  if (ring.error() == 0) return true;
  CHECK((ring.error() == -ENOSYS || ring.error() == -EPERM));
  tests::skip("the kernel refuses io_uring");
  return false;
}

TEST_CASE("a ring opens no files, and has no sockets") {
  OpenRing ring;
  if (!is_there(ring)) return;
  CHECK(ring.result_of([](io_uring_sqe* sqe) {
    io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
  }) == -EACCES);
  CHECK(ring.result_of([](io_uring_sqe* sqe) {
    io_uring_prep_socket(sqe, AF_UNIX, SOCK_STREAM, 0, 0);
  }) == -EACCES);
  CHECK(ring.result_of(
            [](io_uring_sqe* sqe) { io_uring_prep_unlink(sqe, "/nowhere/at/all", 0); }) == -EACCES);
}

TEST_CASE("of all operations that there are, a ring refuses all but seven") {
  OpenRing ring;
  if (!is_there(ring)) return;
  constexpr std::array<uint8_t, 7> allowed = {IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_READV,
                                              IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_POLL_ADD,
                                              IORING_OP_TIMEOUT};
  // Numbers behind the last that this header knows are of newer kernels, or of none.
  for (unsigned operation = 0; operation < 256; ++operation) {
    CAPTURE(operation);
    const int result = ring.result_of(
        [&](io_uring_sqe* sqe) { io_uring_prep_rw(int(operation), sqe, -1, nullptr, 0, 0); });
    CHECK(result < 0);
    if (std::ranges::find(allowed, operation) != allowed.end()) {
      CHECK(result != -EACCES);
    } else if (operation < IORING_OP_LAST) {
      CHECK(result == -EACCES);
    }
  }
}

TEST_CASE("a ring that is restricted stays so, and does what a loop asks") {
  OpenRing ring;
  if (!is_there(ring)) return;
  io_uring_restriction all{};
  all.opcode = IORING_RESTRICTION_SQE_OP;
  all.sqe_op = IORING_OP_OPENAT;
  const auto descriptor = unsigned(ring.descriptor());
  CHECK(io_uring_register(descriptor, IORING_REGISTER_RESTRICTIONS, &all, 1) == -EACCES);
  CHECK(io_uring_register(descriptor, IORING_REGISTER_EVENTFD, &all, 1) == -EACCES);
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  std::string_view said = "said";
  iovec out{.iov_base = const_cast<char*>(said.data()), .iov_len = said.size()};
  CHECK(ring.result_of(
            [&](io_uring_sqe* sqe) { io_uring_prep_writev(sqe, ends[1], &out, 1, 0); }) == 4);
  std::array<char, 8> heard{};
  iovec in{.iov_base = heard.data(), .iov_len = heard.size()};
  CHECK(ring.result_of([&](io_uring_sqe* sqe) { io_uring_prep_readv(sqe, ends[0], &in, 1, 0); }) ==
        4);
  CHECK(std::string_view(heard.data(), 4) == said);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace vhdkit::async
