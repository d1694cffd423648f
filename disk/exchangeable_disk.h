// A disk whose place behind the scenes may change while it is used.
#pragma once

#include <coroutine>
#include <deque>
#include <optional>

#include "disk/disk.h"

namespace vhdkit::disk {

// Passes requests on to the disk behind it. To put another one there: hold(), so that no request
// runs and those that come wait, then go_on() with the other one, which shows the same content.
// What waited goes on there, in the order in which it came; nobody notices but for the time, and
// for the size where that is another one: what lies behind a smaller end is out of range, also for
// requests that waited.
class ExchangeableDisk final : public Disk {
 public:
  // The disk behind outlives its time there.
  explicit ExchangeableDisk(Disk& behind) : behind_(&behind), geometry_(behind.geometry()) {}
  ~ExchangeableDisk() override;

  const Geometry& geometry() const override { return geometry_; }

  // Returns when no request runs any more; new ones wait from this call on. REQUIRES: it is not
  // held.
  async::Task<void> hold();
  // REQUIRES: it is held; the disk has the same geometry, but for its size.
  void go_on(Disk& behind);
  // There is no disk any more: what waits, and all that comes, fails with this. REQUIRES: held.
  void fail_all(Error error);

 private:
  // Lives in the frame of the request.
  struct Entrance {
    ExchangeableDisk& disk;
    bool await_ready() const noexcept { return !disk.is_held_; }
    void await_suspend(std::coroutine_handle<> request) { disk.waiting_.push_back(request); }
    void await_resume() const noexcept { ++disk.running_count_; }
  };
  struct Rest {
    ExchangeableDisk& disk;
    bool await_ready() const noexcept { return disk.running_count_ == 0; }
    void await_suspend(std::coroutine_handle<> holder) noexcept { disk.holder_ = holder; }
    void await_resume() const noexcept {}
  };

  template <class Make>
  Async<void> pass(Make make);
  void leave();
  void let_in();

  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override;
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) override;
  Async<void> do_flush() override;
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override;
  Async<void> do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) override;

  Disk* behind_;  // null: failure_ has happened
  Geometry geometry_;
  std::optional<Error> failure_;
  bool is_held_ = false;
  size_t running_count_ = 0;
  std::coroutine_handle<> holder_;
  std::deque<std::coroutine_handle<>> waiting_;
};

}  // namespace vhdkit::disk
