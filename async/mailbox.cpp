#include "async/mailbox.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cassert>
#include <utility>

namespace vhdkit::async {
namespace {

void watch(int epoll, int descriptor) {
  epoll_event event{.events = EPOLLIN, .data = {}};
  [[maybe_unused]] const int added = epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
  assert(added == 0);
}

}  // namespace

Mailbox::Mailbox(Loop& loop, Letter* at_telling)
    : loop_(loop), at_telling_(at_telling), descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  assert(descriptor_ >= 0);
}

Mailbox::~Mailbox() {
  for (const int descriptor : {descriptor_, timer_, either_})
    if (descriptor >= 0) ::close(descriptor);
}

void Mailbox::post(Letter& letter) noexcept {
  if (letter.is_under_way_.exchange(true)) return;
  Letter* newest = newest_.load(std::memory_order_relaxed);
  do letter.next_ = newest;
  while (!newest_.compare_exchange_weak(newest, &letter));
  // Where others lie there already, the loop has been told.
  if (newest == nullptr) tell();
}

void Mailbox::tell() noexcept {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t told = write(descriptor_, &one, sizeof one);
}

Task<void> Mailbox::serve() {
  while (!is_closed_) {
    // One wait for both: a loop has no more than one for input.
    co_await loop_.readable(either_ >= 0 ? either_ : descriptor_);
    const bool is_told = was_told();
    open_all();
    ring_alarm();
    if (is_told && at_telling_ != nullptr) at_telling_->open();
  }
}

bool Mailbox::was_told() noexcept {
  uint64_t count = 0;
  return read(descriptor_, &count, sizeof count) == sizeof count;
}

// --- the alarm ---

void Mailbox::set_alarm(AlarmTime when, Letter& letter) {
  alarm_ = &letter;
  if (timer_ < 0) {
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    either_ = epoll_create1(EPOLL_CLOEXEC);
    assert(timer_ >= 0 && either_ >= 0);
    watch(either_, descriptor_);
    watch(either_, timer_);
    // serve() may be waiting for the letters alone.
    tell();
  }
  arm_timer(when);
}

void Mailbox::clear_alarm() {
  if (std::exchange(alarm_, nullptr) != nullptr) arm_timer(AlarmTime());
}

// The clock's beginning: never.
void Mailbox::arm_timer(AlarmTime when) const {
  constexpr int64_t second = 1'000'000'000;
  const int64_t count = std::chrono::nanoseconds(when.time_since_epoch()).count();
  const itimerspec setting{.it_interval = {},
                           .it_value = {.tv_sec = count / second, .tv_nsec = count % second}};
  [[maybe_unused]] const int set = timerfd_settime(timer_, TFD_TIMER_ABSTIME, &setting, nullptr);
  assert(set == 0);
}

void Mailbox::ring_alarm() {
  uint64_t count = 0;
  if (timer_ < 0 || read(timer_, &count, sizeof count) != sizeof count) return;
  if (Letter* const letter = std::exchange(alarm_, nullptr)) letter->open();
}

// --- letters ---

void Mailbox::close() {
  is_closed_ = true;
  tell();
}

void Mailbox::open_all() {
  Letter* oldest = nullptr;
  for (Letter* letter = newest_.exchange(nullptr); letter != nullptr;) {
    Letter* const before = letter->next_;
    letter->next_ = oldest;
    oldest = letter;
    letter = before;
  }
  while (oldest != nullptr) {
    Letter& letter = *oldest;
    oldest = letter.next_;
    letter.is_under_way_ = false;
    letter.open();
  }
}

}  // namespace vhdkit::async
