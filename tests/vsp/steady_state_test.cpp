// Counts what the general allocator is asked for while requests run: a program of its own, since it
// replaces operator new.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "disk/ram_disk.h"
#include "tests/support/await.h"
#include "tests/vsp/guest.h"
#include "tests/vsp/local_channel.h"
#include "vsp-storage/scsi/disk_unit.h"

namespace {
std::atomic<uint64_t> allocation_count = 0;
}

void* operator new(size_t size) {
  ++allocation_count;
  if (void* const memory = std::malloc(size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace vhdkit::tests {
namespace {

constexpr unsigned depth = 32;

async::Task<void> serve(async::Loop& loop, storvsp::Worker& worker) {
  worker.wake();
  for (int i = 0; i < 4; ++i) co_await loop.turn();
}

Bytes transfer_of_a_page(bool writes) {
  Bytes cdb(10);
  cdb[0] = writes ? std::byte{0x2a} : std::byte{0x28};
  cdb[8] = std::byte{8};
  return GuestChannel::srb({}, cdb, writes ? GuestChannel::write : GuestChannel::read, 4096);
}

async::Task<void> scenario(async::Loop& loop, storvsp::Worker& worker) {
  async::TaskGroup served;
  served.start(worker.serve());
  {
    LocalChannel local(worker, {}, depth);
    local.attach(0, std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions()),
                 std::make_shared<disk::RamDisk>(disk::Geometry{.size_bytes = 1 << 20}));
    co_await serve(loop, worker);
    local.collect();
    for (const bool writes : {true, false}) {
      const Bytes packet = transfer_of_a_page(writes);
      uint64_t before = 0;
      unsigned completed = 0;
      for (int round = 0; round < 20; ++round) {
        // The first rounds fill the pools.
        if (round == 10) before = allocation_count;
        for (unsigned i = 0; i < depth; ++i)
          local.send_with_page(i, LocalChannel::first_data_page + i, 4096, packet);
        co_await serve(loop, worker);
        completed += local.collect();
      }
      const uint64_t allocations = allocation_count - before;
      CHECK(allocations == 0);
      CHECK(completed == 20 * depth);
    }
    [[maybe_unused]] const auto closed = co_await local.channel().close();
  }
  worker.stop();
  worker.mailbox().look();
  [[maybe_unused]] const auto finished = co_await served.finish();
}

TEST_CASE("requests in the steady state ask for no memory") {
  if (!async::FramePool::keeps_frames) {
    std::puts(
        "skipped: requests in the steady state: the address sanitizer wants every frame anew");
    return;
  }
  auto loop = async::Loop::create();
  REQUIRE_OK(loop);
  storvsp::Worker worker(**loop, {.awake_for = std::chrono::microseconds(0)});
  (*loop)->run(scenario(**loop, worker));
}

}  // namespace
}  // namespace vhdkit::tests
