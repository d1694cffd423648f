#include "vsp-storage/scsi/gate.h"

#include <cassert>

namespace vhdkit::scsi {

Gate::~Gate() { assert(state_ == 0 && sharing_.first == nullptr && alone_.first == nullptr); }

void Gate::Queue::push(Waiter& waiter) {
  (first == nullptr ? first : last->next) = &waiter;
  last = &waiter;
}

Gate::Waiter* Gate::Queue::pop() {
  Waiter* const waiter = first;
  if (waiter != nullptr) first = waiter->next;
  return waiter;
}

Gate::Waiter* Gate::Queue::pop_all() { return std::exchange(first, nullptr); }

bool Gate::try_enter_alone() noexcept {
  const std::scoped_lock lock(mutex_);
  uint32_t nobody = 0;
  if (!state_.compare_exchange_strong(nobody, closed)) return false;
  somebody_is_alone_ = true;
  return true;
}

bool Gate::wait(Waiter& waiter) noexcept {
  const std::scoped_lock lock(mutex_);
  if ((state_ & closed) == 0) {
    state_ += 1;
    return false;
  }
  sharing_.push(waiter);
  return true;
}

bool Gate::wait_alone(Waiter& waiter) noexcept {
  const std::scoped_lock lock(mutex_);
  // Who shares it and leaves after this sees that it is closed, and comes to all_have_left().
  const uint32_t before = state_.fetch_or(closed);
  if (before == 0) {
    somebody_is_alone_ = true;
    return false;
  }
  alone_.push(waiter);
  return true;
}

void Gate::all_have_left() noexcept {
  Waiter* next = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    // Somebody may have come and gone between the last one's leaving and here.
    if (somebody_is_alone_ || state_ != closed) return;
    next = alone_.pop();
    if (next == nullptr) return;
    somebody_is_alone_ = true;
  }
  next->resumer->resume(next->coroutine);
}

void Gate::leave_alone() noexcept {
  Waiter* next = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    somebody_is_alone_ = false;
    next = sharing_.pop_all();
    uint32_t count = 0;
    for (const Waiter* waiter = next; waiter != nullptr; waiter = waiter->next) ++count;
    state_ += count;
    if (alone_.first == nullptr) {
      state_ &= ~closed;
    } else if (next == nullptr) {
      next = alone_.pop();
      next->next = nullptr;
      somebody_is_alone_ = true;
    }
  }
  while (next != nullptr) {
    // Its frame, and the waiter in it, may be gone as soon as it goes on.
    Waiter* const waiter = std::exchange(next, next->next);
    waiter->resumer->resume(waiter->coroutine);
  }
}

}  // namespace vhdkit::scsi
