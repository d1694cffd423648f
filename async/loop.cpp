#include "async/loop.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <string_view>
#include <thread>
#include <utility>

#include "async/ring.h"
#include "support/checked.h"

namespace vhdkit::async {
namespace {

// At most this many completions are copied out before their waiters run.
constexpr unsigned batch_size = 64;
constexpr size_t max_transfer_bytes = 1 * GiB;  // of one buffer; the kernel moves less than 2 GiB

int wait_for_input(int descriptor, int timeout_ms) noexcept {
  pollfd events{.fd = descriptor, .events = POLLIN, .revents = 0};
  return ::poll(&events, 1, timeout_ms) < 0 ? -1 : events.revents;
}

// Waits for a descriptor, awake for a moment where it is answered fast: to be woken on another
// processor takes longer than many a request. Whoever is asked seldom sleeps at once.
class Watch {
 public:
  void wait(Operation& operation) noexcept {
    operation.result = 0;
    const Time begin = Clock::now();
    if (is_fast_) {
      while (operation.result == 0 && Clock::now() - begin < longest_awake)
        operation.result = wait_for_input(operation.descriptor, 0);
    }
    if (operation.result == 0) operation.result = wait_for_input(operation.descriptor, -1);
    is_fast_ = Clock::now() - begin < longest_awake;
  }

 private:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;
  static constexpr auto longest_awake = std::chrono::microseconds(60);
  bool is_fast_ = false;
};

ssize_t transfer(const Operation& operation) noexcept {
  const auto offset = off_t(operation.file_offset);
  const auto vector_count = int(operation.vector_count);
  switch (operation.kind) {
    case Operation::Kind::read:
      return preadv(operation.descriptor, operation.vectors, vector_count, offset);
    case Operation::Kind::write:
      return pwritev(operation.descriptor, operation.vectors, vector_count, offset);
    case Operation::Kind::write_durable:
      return pwritev2(operation.descriptor, operation.vectors, vector_count, offset, RWF_DSYNC);
    case Operation::Kind::fsync:
      return ::fsync(operation.descriptor);
    case Operation::Kind::fdatasync:
      return ::fdatasync(operation.descriptor);
    case Operation::Kind::poll:
      return wait_for_input(operation.descriptor, -1);
    case Operation::Kind::sleep:
      std::this_thread::sleep_for(std::chrono::seconds(operation.delay.tv_sec) +
                                  std::chrono::nanoseconds(operation.delay.tv_nsec));
      return 0;
  }
  __builtin_unreachable();
}

// By a call of its own: as an operation's result.
int call(const Operation& operation) noexcept {
  const ssize_t moved = transfer(operation);
  return moved < 0 ? -errno : int(moved);
}

class RingLoop final : public Loop {
 public:
  static Result<std::unique_ptr<Loop>> create(unsigned slot_count) {
    std::unique_ptr<RingLoop> loop(new RingLoop(slot_count));
    const int error = open_ring(loop->ring_, slot_count);
    loop->ready_ = error == 0;
    if (error < 0) return fail_errno(-error, "io_uring");
    return loop;
  }

  ~RingLoop() override {
    assert(in_flight_ == 0 && queue_head_ == nullptr);
    if (ready_) io_uring_queue_exit(&ring_);
  }

  Engine engine() const override { return Engine::io_uring; }

 private:
  explicit RingLoop(unsigned slot_count) : slot_count_(slot_count) {}

  bool submit(Operation& operation) noexcept override {
    if (operation.is_short && in_flight_ == short_in_flight_) {
      operation.result = call(operation);
      return false;
    }
    if (operation.kind == Operation::Kind::poll) {
      assert(held_poll_ == nullptr);
      held_poll_ = &operation;
    } else {
      hand_over(operation);
    }
    return true;
  }

  void hand_over(Operation& operation) noexcept {
    if (in_flight_ < slot_count_) {
      prepare(operation);
    } else {
      enqueue(operation);
    }
  }

  void prepare(Operation& operation) noexcept {
    // Never null: the ring has slot_count entries and no more than that many are in flight.
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    assert(sqe != nullptr);
    fill(*sqe, operation);
    io_uring_sqe_set_data(sqe, &operation);
    ++in_flight_;
    if (operation.is_short) ++short_in_flight_;
  }

  static void fill(io_uring_sqe& sqe, Operation& operation) noexcept {
    switch (operation.kind) {
      case Operation::Kind::read:
        fill_transfer(sqe, operation, IORING_OP_READ, IORING_OP_READV);
        break;
      case Operation::Kind::write:
      case Operation::Kind::write_durable:
        fill_transfer(sqe, operation, IORING_OP_WRITE, IORING_OP_WRITEV);
        if (operation.kind == Operation::Kind::write_durable) sqe.rw_flags = RWF_DSYNC;
        break;
      case Operation::Kind::fsync:
        io_uring_prep_fsync(&sqe, operation.descriptor, 0);
        break;
      case Operation::Kind::fdatasync:
        io_uring_prep_fsync(&sqe, operation.descriptor, IORING_FSYNC_DATASYNC);
        break;
      case Operation::Kind::poll:
        io_uring_prep_poll_add(&sqe, operation.descriptor, POLLIN);
        break;
      case Operation::Kind::sleep:
        io_uring_prep_timeout(&sqe, &operation.delay, 0, 0);
        break;
    }
  }

  // A single buffer needs no list that the kernel would have to fetch.
  static void fill_transfer(io_uring_sqe& sqe, const Operation& operation, int of_one,
                            int of_several) noexcept {
    const iovec& first = *operation.vectors;
    if (operation.vector_count == 1) {
      const auto length = unsigned(std::min(first.iov_len, max_transfer_bytes));
      io_uring_prep_rw(of_one, &sqe, operation.descriptor, first.iov_base, length,
                       operation.file_offset);
    } else {
      io_uring_prep_rw(of_several, &sqe, operation.descriptor, operation.vectors,
                       operation.vector_count, operation.file_offset);
    }
  }

  void enqueue(Operation& operation) noexcept {
    operation.next = nullptr;
    (queue_head_ == nullptr ? queue_head_ : queue_tail_->next) = &operation;
    queue_tail_ = &operation;
  }

  void refill() noexcept {
    while (queue_head_ != nullptr && in_flight_ < slot_count_) {
      Operation& operation = *queue_head_;
      queue_head_ = operation.next;
      prepare(operation);
    }
  }

  void wait() override {
    if (held_poll_ != nullptr && in_flight_ == 0) return wait_outside();
    if (held_poll_ != nullptr) {
      // What the page cache has is there at once, and then there is often nothing else in flight.
      io_uring_submit_and_get_events(&ring_);
      if (complete() > 0) return;
      hand_over(*std::exchange(held_poll_, nullptr));
    }
    assert(in_flight_ > 0);  // else a task waits for something that nobody will complete
    io_uring_submit_and_wait(&ring_, 1);
    complete();
  }

  void look() override {
    if (in_flight_ == 0) return;
    io_uring_submit_and_get_events(&ring_);
    complete();
  }

  // By a call that wakes up faster than the ring.
  void wait_outside() {
    Operation& operation = *std::exchange(held_poll_, nullptr);
    watch_.wait(operation);
    operation.waiter.resume();
  }

  // Resumes whoever waits for what is done; returns how many.
  unsigned complete() {
    std::array<io_uring_cqe*, batch_size> cqes;
    const unsigned count = io_uring_peek_batch_cqe(&ring_, cqes.data(), batch_size);
    std::array<Operation*, batch_size> completed;
    for (unsigned i = 0; i < count; ++i) {
      completed[i] = static_cast<Operation*>(io_uring_cqe_get_data(cqes[i]));
      completed[i]->result = cqes[i]->res;
      if (completed[i]->is_short) --short_in_flight_;
    }
    io_uring_cq_advance(&ring_, count);
    in_flight_ -= count;
    refill();
    for (unsigned i = 0; i < count; ++i) {
      // Asked again, the ring may say so for ever: its descriptor has O_NONBLOCK, and what is below
      // cannot say whether it would wait.
      if (completed[i]->result == -EAGAIN) completed[i]->result = call(*completed[i]);
      completed[i]->waiter.resume();
    }
    return count;
  }

  io_uring ring_{};
  bool ready_ = false;
  unsigned slot_count_;
  unsigned in_flight_ = 0;
  unsigned short_in_flight_ = 0;  // of those
  Operation* queue_head_ = nullptr;
  Operation* queue_tail_ = nullptr;
  Watch watch_;
  Operation* held_poll_ = nullptr;  // given to the ring only if it has to wait there
};

class SynchronousLoop final : public Loop {
 public:
  Engine engine() const override { return Engine::synchronous; }

 private:
  bool submit(Operation& operation) noexcept override {
    // Whoever waits for input lets the others go on first.
    if (operation.kind == Operation::Kind::poll) {
      polls_.push_back(&operation);
      return true;
    }
    operation.result = call(operation);
    return false;
  }

  void wait() override {
    assert(!polls_.empty());  // else a task waits for something that nobody will complete
    Operation& operation = *polls_.front();
    polls_.pop_front();
    operation.result = call(operation);
    operation.waiter.resume();
  }

  void look() override {}

  std::deque<Operation*> polls_;
};

Engine chosen(Engine asked) {
  if (asked != Engine::automatic) return asked;
  const char* environment = std::getenv("VHDKIT_ENGINE");
  return environment != nullptr && std::string_view(environment) == "sync" ? Engine::synchronous
                                                                           : asked;
}

}  // namespace

void Loop::take_turn() {
  Turn* turn = std::exchange(first_turn_, nullptr);
  if (turn == nullptr) return wait();
  while (turn != nullptr) {
    // The waiter may be the end of its own turn.
    Turn& now = *turn;
    turn = now.next;
    now.waiter.resume();
  }
  look();
}

Task<void> Loop::readable(int descriptor) {
  Operation operation{.kind = Operation::Kind::poll, .descriptor = descriptor};
  co_await perform(operation);
}

Task<void> Loop::sleep(std::chrono::nanoseconds delay) {
  const int64_t count = std::max<int64_t>(delay.count(), 0);
  Operation operation{.kind = Operation::Kind::sleep,
                      .descriptor = -1,
                      .delay = {.tv_sec = count / 1'000'000'000, .tv_nsec = count % 1'000'000'000}};
  co_await perform(operation);
}

Result<std::unique_ptr<Loop>> Loop::create(Options options) {
  const Engine engine = chosen(options.engine);
  if (engine != Engine::synchronous) {
    auto ring = RingLoop::create(options.slot_count);
    if (ring || engine == Engine::io_uring) return ring;
  }
  return std::make_unique<SynchronousLoop>();
}

}  // namespace vhdkit::async
