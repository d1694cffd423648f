#include "async/ring.h"

#include <array>
#include <cerrno>
#include <cstdint>

namespace vhdkit::async {
namespace {

constexpr uint8_t operations[] = {IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_READV,
                                  IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_POLL_ADD,
                                  IORING_OP_TIMEOUT};

int restrict_and_enable(io_uring& ring) noexcept {
  std::array<io_uring_restriction, std::size(operations)> allowed{};
  for (size_t i = 0; i < allowed.size(); ++i) {
    allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
    allowed[i].sqe_op = operations[i];
  }
  // By numbers: liburing 2.3 declares functions for these two, and has them not.
  const auto descriptor = unsigned(ring.ring_fd);
  const int error = io_uring_register(descriptor, IORING_REGISTER_RESTRICTIONS, allowed.data(),
                                      unsigned(allowed.size()));
  if (error < 0) return error;
  return io_uring_register(descriptor, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
}

}  // namespace

int open_ring(io_uring& ring, unsigned slot_count) noexcept {
  // All work of this ring happens on this thread, inside its waiting: fewer interrupts, better
  // batches.
  constexpr unsigned on_this_thread = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  for (const unsigned flags :
       {on_this_thread | IORING_SETUP_R_DISABLED, unsigned{IORING_SETUP_R_DISABLED}, unsigned{0}}) {
    int error = io_uring_queue_init(slot_count, &ring, flags);
    if (error == -EINVAL && flags != 0) continue;
    if (error < 0 || flags == 0) return error;
    error = restrict_and_enable(ring);
    if (error < 0) io_uring_queue_exit(&ring);
    return error;
  }
  __builtin_unreachable();
}

}  // namespace vhdkit::async
