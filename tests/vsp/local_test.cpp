#include <doctest/doctest.h>

#include "disk/ram_disk.h"
#include "tests/support/await.h"
#include "tests/vsp/filled_disk.h"
#include "tests/vsp/guest.h"
#include "tests/vsp/local_channel.h"
#include "vsp-storage/scsi/disk_unit.h"

namespace vhdkit::tests {
namespace {

// A disk whose reads wait until they are let go.
class HeldDisk final : public FilledDisk {
 public:
  explicit HeldDisk(async::Loop& loop) : FilledDisk(1 << 20, std::byte{0x77}), loop_(loop) {}

  bool is_held = true;
  unsigned running_count = 0;

 private:
  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override {
    ++running_count;
    while (is_held) co_await loop_.turn();
    CO_TRY(co_await FilledDisk::do_read(disk_offset, buffers));
    --running_count;
    co_return Result<void>();
  }

  async::Loop& loop_;
};

// Runs a scenario beside a worker on one loop.
using Scenario = async::Task<void> (*)(async::Loop&, storvsp::Worker&);
async::Task<void> beside(async::Loop& loop, storvsp::Worker& worker, Scenario scenario) {
  async::TaskGroup served;
  served.start(worker.serve());
  co_await scenario(loop, worker);
  worker.stop();
  worker.mailbox().look();
  [[maybe_unused]] const auto finished = co_await served.finish();
}
void run(Scenario scenario) {
  auto loop = async::Loop::create();
  REQUIRE_OK(loop);
  storvsp::Worker worker(**loop, {.awake_for = std::chrono::microseconds(0)});
  (*loop)->run(beside(**loop, worker, scenario));
}

async::Task<void> take_turns(async::Loop& loop, storvsp::Worker& worker) {
  worker.wake();
  for (int i = 0; i < 10; ++i) co_await loop.turn();
}

Bytes read_of_a_page() {
  Bytes cdb(10);
  cdb[0] = std::byte{0x28};
  cdb[8] = std::byte{8};
  return GuestChannel::srb({}, cdb, GuestChannel::read, 4096);
}

Async<void> let_go_after(async::Loop& loop, HeldDisk& disk, int turns) {
  for (int i = 0; i < turns; ++i) co_await loop.turn();
  disk.is_held = false;
  co_return Result<void>();
}

async::Task<void> pausing(async::Loop& loop, storvsp::Worker& worker) {
  auto disk = std::make_shared<HeldDisk>(loop);
  LocalChannel local(worker, {}, 8);
  local.attach(0, std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions()), disk);
  co_await take_turns(loop, worker);
  CHECK(local.collect() == 4);
  const Bytes packet = read_of_a_page();
  // The first takes the unit attention; five more are on their way.
  for (uint64_t i = 0; i < 6; ++i)
    local.send_with_page(i, LocalChannel::first_data_page + i, 4096, packet);
  co_await take_turns(loop, worker);
  CHECK(local.collect() == 1);
  CHECK(disk->running_count == 5);

  async::TaskGroup others;
  others.start(let_go_after(loop, *disk, 20));
  const auto moved = co_await local.move_on();
  REQUIRE_OK(moved);
  CHECK(disk->running_count == 0);
  CHECK(local.collect() == 5);
  CHECK(local.memory().page(LocalChannel::first_data_page + 3)[100] == std::byte{0x77});
  // The next channel needs no negotiation and reads what was sent before and after.
  local.send_with_page(7, LocalChannel::first_data_page, 4096, packet);
  co_await take_turns(loop, worker);
  CHECK(local.collect() == 1);
  CHECK_FALSE(local.is_broken());

  const auto paused = co_await local.channel().pause();
  REQUIRE_OK(paused);
  local.send_with_page(8, LocalChannel::first_data_page, 4096, packet);
  co_await take_turns(loop, worker);
  CHECK(local.collect() == 0);
  local.channel().resume();
  co_await take_turns(loop, worker);
  CHECK(local.collect() == 1);
  const auto let_go = co_await others.finish();
  REQUIRE_OK(let_go);
  const auto closed = co_await local.channel().close();
  REQUIRE_OK(closed);
}

TEST_CASE("a channel is paused with requests on their way, and another one goes on with it") {
  run(pausing);
}

async::Task<void> moving_answers(async::Loop& loop, storvsp::Worker& worker) {
  LocalChannel local(worker, {.queue_depth = 4000}, 1);
  local.attach(0, std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions()),
               std::make_shared<disk::RamDisk>(disk::Geometry{.size_bytes = 1 << 20}));
  co_await take_turns(loop, worker);
  // More than the guest's ring has room for, which does not look.
  const Bytes packet = GuestChannel::srb({}, Bytes(6), GuestChannel::none, 0);
  constexpr unsigned count = 2000;
  for (unsigned i = 0; i < count; ++i) {
    local.send(6, i, {}, packet);
    if (i % 100 == 99) co_await take_turns(loop, worker);
  }
  const auto moved = co_await local.move_on();
  REQUIRE_OK(moved);
  unsigned collected = 0;
  for (int round = 0; round < 10; ++round) {
    collected += local.collect();
    local.channel().doorbell().ring();
    worker.mailbox().look();
    co_await take_turns(loop, worker);
  }
  CHECK(collected == count + 4);
  const auto closed = co_await local.channel().close();
  REQUIRE_OK(closed);
}

TEST_CASE("answers that the guest has no room for are not lost when another channel goes on") {
  run(moving_answers);
}

Async<void> let_go_later(async::Loop& loop, HeldDisk& disk, std::chrono::milliseconds delay) {
  co_await loop.sleep(delay);
  disk.is_held = false;
  co_return Result<void>();
}

async::Task<void> sleeping(async::Loop& loop, storvsp::Worker& worker) {
  auto disk = std::make_shared<HeldDisk>(loop);
  LocalChannel local(worker, {}, 1);
  local.attach(0, std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions()), disk);
  co_await take_turns(loop, worker);
  const Bytes packet = read_of_a_page();
  // The first takes the unit attention.
  for (uint64_t i = 0; i < 2; ++i)
    local.send_with_page(i, LocalChannel::first_data_page, 4096, packet);
  co_await take_turns(loop, worker);
  REQUIRE(disk->running_count == 1);
  const std::chrono::milliseconds delay(20);
  const auto slept = co_await let_go_later(loop, *disk, delay);
  REQUIRE_OK(slept);
  co_await take_turns(loop, worker);
  REQUIRE(disk->running_count == 0);
  uint64_t slow_count = 0;
  const size_t first_slow = 14;  // from 2^13 us on
  for (size_t entry = first_slow; entry < storvsp::Histogram::entry_count; ++entry)
    slow_count += local.counters(0).read_latency_us.count(entry);
  CHECK(slow_count >= 1);  // the first one, too, on a machine that stood still
  const auto closed = co_await local.channel().close();
  REQUIRE_OK(closed);
}

TEST_CASE("what a request takes is counted while its worker sleeps, too") { run(sleeping); }

async::Task<void> breaking(async::Loop& loop, storvsp::Worker& worker) {
  LocalChannel local(worker, {.queue_depth = 4000}, 1);
  local.attach(0, std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions()),
               std::make_shared<disk::RamDisk>(disk::Geometry{.size_bytes = 1 << 20}));
  co_await take_turns(loop, worker);
  // No room for the announcement, which so stays to be written.
  const Bytes packet = GuestChannel::srb({}, Bytes(6), GuestChannel::none, 0);
  for (unsigned i = 0; i < 2000; ++i) {
    local.send(6, i, {}, packet);
    if (i % 100 == 99) co_await take_turns(loop, worker);
  }
  local.channel().announce_units();
  co_await take_turns(loop, worker);
  REQUIRE_FALSE(local.is_broken());
  local.incoming().set_word(GuestRing::read_index, UINT32_MAX);
  local.outgoing().set_word(GuestRing::write_index, UINT32_MAX);
  co_await take_turns(loop, worker);
  CHECK(local.break_count() == 1);
  const auto closed = co_await local.channel().close();
  REQUIRE_OK(closed);
}

TEST_CASE("a channel whose rings are both broken says so once") { run(breaking); }

}  // namespace
}  // namespace vhdkit::tests
