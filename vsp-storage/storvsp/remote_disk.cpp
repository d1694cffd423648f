#include "vsp-storage/storvsp/remote_disk.h"

namespace vhdkit::storvsp {
namespace {

// Carries the last hold of a disk to its owner's thread.
class Farewell final : public async::Letter {
 public:
  explicit Farewell(Controller::DiskView disk) : disk_(std::move(disk)) {}
  void open() override { delete this; }

 private:
  Controller::DiskView disk_;
};

// Bound to the loop of `here`.
class RemoteDisk final : public disk::Disk {
 public:
  RemoteDisk(Controller::DiskView disk, Worker& owner, Worker& here)
      : disk_(std::move(disk)), geometry_(disk_->geometry()), owner_(owner), here_(here) {}
  ~RemoteDisk() override { owner_.mailbox().post(*new Farewell(std::move(disk_))); }

  const disk::Geometry& geometry() const override { return geometry_; }

 private:
  // Goes there to start its task, and comes back with what became of it. Lives in the frame of who
  // waits.
  template <class Make>
  class Errand {
   public:
    Errand(RemoteDisk& view, Make make)
        : view_(view), make_(std::move(make)), there_(*this), back_(*this) {}

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) noexcept {
      waiter_ = waiter;
      view_.owner_.mailbox().post(there_);
    }
    Result<void> await_resume() { return std::move(outcome_); }

   private:
    void begin() { view_.owner_.start(run()); }
    Async<void> run() {
      outcome_ = co_await make_();
      view_.here_.mailbox().post(back_);
      co_return Result<void>();
    }
    void end() { waiter_.resume(); }

    RemoteDisk& view_;
    Make make_;
    Result<void> outcome_;
    std::coroutine_handle<> waiter_;
    async::LetterTo<Errand, &Errand::begin> there_;
    async::LetterTo<Errand, &Errand::end> back_;
  };

  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override {
    const auto make = [&] { return disk_->read(disk_offset, buffers); };
    Errand errand(*this, make);
    co_return co_await errand;
  }
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) override {
    const auto make = [&] { return disk_->write(disk_offset, buffers, durability); };
    Errand errand(*this, make);
    co_return co_await errand;
  }
  Async<void> do_flush() override {
    const auto make = [&] { return disk_->flush(); };
    Errand errand(*this, make);
    co_return co_await errand;
  }
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override {
    const auto make = [&] { return disk_->zero(disk_offset, length); };
    Errand errand(*this, make);
    co_return co_await errand;
  }
  Async<void> do_extents(uint64_t disk_offset, uint64_t length,
                         disk::ExtentList& extents) override {
    const auto make = [&] { return disk_->extents(disk_offset, length, extents); };
    Errand errand(*this, make);
    co_return co_await errand;
  }

  Controller::DiskView disk_;
  disk::Geometry geometry_;
  Worker& owner_;
  Worker& here_;
};

}  // namespace

std::vector<Controller::DiskView> views_of(Controller::DiskView disk, size_t owner,
                                           std::span<Worker* const> workers) {
  std::vector<Controller::DiskView> views;
  for (size_t i = 0; i < workers.size(); ++i)
    views.push_back(i == owner ? disk
                               : std::make_shared<RemoteDisk>(disk, *workers[owner], *workers[i]));
  return views;
}

}  // namespace vhdkit::storvsp
