#include "async/mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cassert>

namespace vhdkit::async {

Mailbox::Mailbox(Loop& loop, Letter* at_telling)
    : loop_(loop), at_telling_(at_telling), descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  assert(descriptor_ >= 0);
}

Mailbox::~Mailbox() { ::close(descriptor_); }

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
    co_await loop_.readable(descriptor_);
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t heard = read(descriptor_, &count, sizeof count);
    open_all();
    if (at_telling_ != nullptr) at_telling_->open();
  }
}

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
