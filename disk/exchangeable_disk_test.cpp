#include "disk/exchangeable_disk.h"

#include <doctest/doctest.h>

#include <array>
#include <utility>

#include "async/task_group.h"
#include "disk/ram_disk.h"
#include "tests/support/await.h"

namespace vhdkit::disk {
namespace {

constexpr Geometry geometry{.size_bytes = 1 << 20, .read_only = false};
constexpr size_t sector = 512;

using Sector = std::array<std::byte, sector>;

Sector filled(int value) {
  Sector bytes;
  bytes.fill(std::byte(value));
  return bytes;
}

// Lets nothing end before it is told to.
class SlowDisk final : public Disk {
 public:
  explicit SlowDisk(Disk& behind) : behind_(behind) {}
  const Geometry& geometry() const override { return behind_.geometry(); }
  size_t waiting_count() const { return waiting_.size(); }
  void finish_all() {
    for (const std::coroutine_handle<> one : std::exchange(waiting_, {})) one.resume();
  }

 private:
  struct Wait {
    SlowDisk& disk;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { disk.waiting_.push_back(waiter); }
    void await_resume() const noexcept {}
  };
  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override {
    Wait wait{*this};
    co_await wait;
    co_return co_await behind_.read(disk_offset, buffers);
  }
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) override {
    Wait wait{*this};
    co_await wait;
    co_return co_await behind_.write(disk_offset, buffers, durability);
  }
  Async<void> do_flush() override { return behind_.flush(); }
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override {
    return behind_.zero(disk_offset, length);
  }
  Async<void> do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) override {
    return behind_.extents(disk_offset, length, extents);
  }

  Disk& behind_;
  std::vector<std::coroutine_handle<>> waiting_;
};

Async<void> hold(ExchangeableDisk& disk, bool& is_held) {
  co_await disk.hold();
  is_held = true;
  co_return Result<void>();
}

Async<void> keep(Async<void> task, Result<void>& outcome) {
  outcome = co_await std::move(task);
  co_return Result<void>();
}

Async<void> pass_everything_on() {
  RamDisk ram(geometry);
  ExchangeableDisk disk(ram);
  CHECK(disk.geometry().size_bytes == geometry.size_bytes);
  const Sector written = filled(7);
  CO_TRY(co_await disk.write(sector, std::span<const std::byte>(written)));
  CO_TRY(co_await disk.flush());
  Sector read{};
  CO_TRY(co_await ram.read(sector, std::span<std::byte>(read)));
  CHECK(read == written);
  CO_TRY(co_await disk.zero(sector, sector));
  CO_TRY(co_await disk.read(sector, std::span<std::byte>(read)));
  CHECK(read == Sector{});
  ExtentList extents;
  CO_TRY(co_await disk.extents(0, geometry.size_bytes, extents));
  CHECK(extents.size() > 0);
  co_return Result<void>();
}

TEST_CASE("requests go to the disk behind it") { REQUIRE_OK(tests::await(pass_everything_on())); }

Async<void> exchange_under_requests() {
  RamDisk first(geometry);
  RamDisk second(geometry);
  SlowDisk slow(first);
  ExchangeableDisk disk(slow);
  async::TaskGroup group;
  const Sector one = filled(1);
  const Sector two = filled(2);
  group.start(disk.write(0, std::span<const std::byte>(one)));
  bool is_held = false;
  group.start(hold(disk, is_held));
  // One runs, and the disk is not at rest; another one waits.
  group.start(disk.write(sector, std::span<const std::byte>(two)));
  CHECK_FALSE(is_held);
  CHECK(slow.waiting_count() == 1);
  slow.finish_all();
  CHECK(is_held);
  CHECK(slow.waiting_count() == 0);
  disk.go_on(second);
  CO_TRY(co_await group.finish());
  Sector read{};
  CO_TRY(co_await first.read(0, std::span<std::byte>(read)));
  CHECK(read == one);
  CO_TRY(co_await first.read(sector, std::span<std::byte>(read)));
  CHECK(read == Sector{});
  CO_TRY(co_await second.read(sector, std::span<std::byte>(read)));
  CHECK(read == two);
  CO_TRY(co_await disk.read(sector, std::span<std::byte>(read)));
  CHECK(read == two);
  co_return Result<void>();
}

TEST_CASE("another disk takes its place between two requests") {
  REQUIRE_OK(tests::await(exchange_under_requests()));
}

Async<void> take_away() {
  RamDisk ram(geometry);
  ExchangeableDisk disk(ram);
  async::TaskGroup group;
  bool is_held = false;
  group.start(hold(disk, is_held));
  CHECK(is_held);
  const Sector one = filled(1);
  Result<void> waited;
  group.start(keep(disk.write(0, std::span<const std::byte>(one)), waited));
  disk.fail_all({.code = Errc::io, .message = "gone"});
  CO_TRY(co_await group.finish());
  REQUIRE_FAILS(Errc::io, "gone", waited);
  const auto flushed = co_await disk.flush();
  REQUIRE_FAILS(Errc::io, "gone", flushed);
  // And once more.
  group.start(hold(disk, is_held));
  disk.go_on(ram);
  CO_TRY(co_await group.finish());
  co_return co_await disk.write(0, std::span<const std::byte>(one));
}

TEST_CASE("a disk that was taken away fails what waits and what comes") {
  REQUIRE_OK(tests::await(take_away()));
}

Async<void> change_size() {
  RamDisk large(geometry);
  RamDisk small({.size_bytes = sector, .read_only = false});
  ExchangeableDisk disk(large);
  async::TaskGroup group;
  bool is_held = false;
  group.start(hold(disk, is_held));
  const Sector one = filled(1);
  Result<void> within;
  Result<void> behind;
  group.start(keep(disk.write(0, std::span<const std::byte>(one)), within));
  group.start(keep(disk.write(sector, std::span<const std::byte>(one)), behind));
  disk.go_on(small);
  CO_TRY(co_await group.finish());
  REQUIRE_OK(within);
  REQUIRE_FAILS(Errc::out_of_range, "", behind);
  CHECK(disk.geometry().size_bytes == sector);
  const auto further = co_await disk.zero(sector, sector);
  REQUIRE_FAILS(Errc::out_of_range, "", further);
  // And larger again.
  group.start(hold(disk, is_held));
  disk.go_on(large);
  CO_TRY(co_await group.finish());
  CHECK(disk.geometry().size_bytes == geometry.size_bytes);
  co_return co_await disk.write(geometry.size_bytes - sector, std::span<const std::byte>(one));
}

TEST_CASE("a disk in its place has a size of its own") { REQUIRE_OK(tests::await(change_size())); }

}  // namespace
}  // namespace vhdkit::disk
