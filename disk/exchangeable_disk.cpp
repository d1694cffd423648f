#include "disk/exchangeable_disk.h"

#include <cassert>
#include <utility>

namespace vhdkit::disk {

ExchangeableDisk::~ExchangeableDisk() { assert(running_count_ == 0 && waiting_.empty()); }

async::Task<void> ExchangeableDisk::hold() {
  assert(!is_held_);
  is_held_ = true;
  Rest rest{*this};
  co_await rest;
}

void ExchangeableDisk::go_on(Disk& behind) {
  assert(behind.geometry().logical_sector_bytes == geometry_.logical_sector_bytes);
  behind_ = &behind;
  geometry_ = behind.geometry();
  let_in();
}

void ExchangeableDisk::fail_all(Error error) {
  behind_ = nullptr;
  failure_ = std::move(error);
  let_in();
}

void ExchangeableDisk::let_in() {
  assert(is_held_ && running_count_ == 0);
  is_held_ = false;
  // Whoever comes while they go on enters at once: order is nobody's right but theirs.
  for (auto waiting = std::exchange(waiting_, {}); !waiting.empty();) {
    const std::coroutine_handle<> request = waiting.front();
    waiting.pop_front();
    request.resume();
  }
}

void ExchangeableDisk::leave() {
  --running_count_;
  if (running_count_ == 0 && holder_ != nullptr) std::exchange(holder_, nullptr).resume();
}

template <class Make>
Async<void> ExchangeableDisk::pass(Make make) {
  Entrance entrance{*this};
  co_await entrance;
  Result<void> outcome;
  if (behind_ == nullptr) {
    outcome = std::unexpected(*failure_);
  } else {
    outcome = co_await make(*behind_);
  }
  leave();
  co_return outcome;
}

Async<void> ExchangeableDisk::do_read(uint64_t disk_offset, Buffers buffers) {
  return pass([=](Disk& disk) { return disk.read(disk_offset, buffers); });
}

Async<void> ExchangeableDisk::do_write(uint64_t disk_offset, Buffers buffers,
                                       Durability durability) {
  return pass([=](Disk& disk) { return disk.write(disk_offset, buffers, durability); });
}

Async<void> ExchangeableDisk::do_flush() {
  return pass([](Disk& disk) { return disk.flush(); });
}

Async<void> ExchangeableDisk::do_zero(uint64_t disk_offset, uint64_t length) {
  return pass([=](Disk& disk) { return disk.zero(disk_offset, length); });
}

Async<void> ExchangeableDisk::do_extents(uint64_t disk_offset, uint64_t length,
                                         ExtentList& extents) {
  return pass([=, &extents](Disk& disk) { return disk.extents(disk_offset, length, extents); });
}

}  // namespace vhdkit::disk
