#include "hypervisor/runner/outlet.h"

#include <algorithm>

namespace vhdkit::hypervisor {

size_t Outlet::room() const {
  if (reader_ == nullptr) return max_waiting_bytes;
  return state_ == State::is_full ? 0 : max_waiting_bytes - waiting_.size();
}

void Outlet::keep(std::span<const std::byte> bytes) {
  if (reader_ == nullptr) return;
  const auto kept = bytes.first(std::min(bytes.size(), room()));
  waiting_.insert(waiting_.end(), kept.begin(), kept.end());
}

pollfd Outlet::question() {
  is_asked_ = reader_ != nullptr && state_ != State::takes;
  return {.fd = is_asked_ ? reader_->number() : -1, .events = POLLOUT, .revents = 0};
}

// Where the reader has gone, too, a write says so.
void Outlet::hear(const pollfd& answer) {
  if (is_asked_) state_ = answer.revents != 0 ? State::takes : State::is_full;
}

void Outlet::ask_again() {
  state_ = State::unknown;
  is_asked_ = false;
}

void Outlet::drop(size_t count) {
  waiting_.erase(waiting_.begin(), waiting_.begin() + ptrdiff_t(count));
  ask_again();
}

}  // namespace vhdkit::hypervisor
