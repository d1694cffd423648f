// One unit, used by several threads at once: mostly of use under a thread sanitizer.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>

#include "vsp-storage/scsi/target.h"
#include "vsp-storage/scsi/test_initiator.h"
#include "vsp-storage/scsi/test_mailbox.h"

namespace vhdkit::scsi {
namespace {

using async::Task;

constexpr size_t data_bytes = 1024;

// Commands of every kind, as a guest could send them at any time.
std::vector<std::pair<Bytes, Direction>> mixture() {
  constexpr Direction none = Direction::none, in = Direction::from_device,
                      out = Direction::to_device;
  Bytes compare_and_write = cdb16(0x89, {.lba = 3});
  compare_and_write[13] = std::byte{1};
  return {
      {cdb10(0x28, {.lba = 1, .count = 2}), in},
      {cdb10(0x2a, {.lba = 9, .count = 2}), out},
      {cdb16(0x88, {.lba = 1, .count = 1}), in},
      {compare_and_write, out},
      {cdb10(0x2e, {.lba = 20, .count = 2}), out},
      {cdb10(0x35, {}), none},
      {bytes_of_values({0, 0, 0, 0, 0, 0}), none},
      {bytes_of_values({0x12, 1, 0xb0, 0, 255, 0}), in},
      {bytes_of_values({0x1a, 0, 0x3f, 0, 255, 0}), in},
      {bytes_of_values({0x15, 0x10, 0, 0, 24, 0}), out},
      {bytes_of_values({0x03, 0, 0, 0, 18, 0}), in},
      {bytes_of_values({0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0}), out},
      {bytes_of_values({0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0}), out},
      {bytes_of_values({0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0}), out},
      {bytes_of_values({0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0}), in},
      {bytes_of_values({0x16, 0, 0, 0, 0, 0}), none},
      {bytes_of_values({0x17, 0, 0, 0, 0, 0}), none},
      {bytes_of_values({0x1b, 0, 0, 0, 4, 0}), none},
      {bytes_of_values({0x1b, 0, 0, 0, 1, 0}), none},
      {bytes_of_values({0x1e, 0, 0, 0, 1, 0}), none},
      {bytes_of_values({0xa0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0}), in},
  };
}

// A parameter list for those of the mixture that have one: a caching page, or a key of 1.
Bytes parameters(size_t round) {
  Bytes data(data_bytes);
  data[4] = std::byte{0x08};
  data[5] = std::byte{18};
  data[6] = std::byte(round % 2 == 0 ? 4 : 0);
  if (round % 3 == 0) data = Bytes(data_bytes);
  return data;
}

Task<void> send_mixture(DiskUnit& unit, disk::Disk& disk, Mailbox& mailbox, uint64_t initiator) {
  const auto commands = mixture();
  for (size_t round = 0; round < 2000; ++round) {
    const auto& [cdb, direction] = commands[(round * 7 + initiator * 5) % commands.size()];
    Bytes data = parameters(round);
    const iovec vector{data.data(), data.size()};
    const Command command{.cdb = cdb,
                          .direction = direction,
                          .data = Buffers(&vector, direction == Direction::none ? 0 : 1),
                          .initiator = initiator,
                          .resumer = &mailbox};
    const Outcome outcome = co_await unit.execute(disk, command);
    if (outcome.transferred_bytes > data.size() || outcome.status == Status::busy) std::abort();
  }
}

void work(DiskUnit& unit, uint64_t first_initiator) {
  WatchedDisk disk({.size_bytes = 64 * 512, .read_only = false});
  Mailbox mailbox;
  std::vector<Task<void>> tasks;
  for (uint64_t i = 0; i < 3; ++i)
    tasks.push_back(send_mixture(unit, disk, mailbox, first_initiator + i));
  mailbox.run(tasks);
}

TEST_CASE("threads share a unit, while the host resets it and changes its target") {
  Target target;
  const auto unit = std::make_shared<DiskUnit>(TestDisk::default_options());
  REQUIRE(target.attach(0, unit).has_value());
  std::atomic<bool> is_over = false;
  std::thread host([&target, &unit, &is_over] {
    while (!is_over) {
      const auto other = std::make_shared<DiskUnit>(DiskUnitOptions());
      if (!target.attach(5, other)) std::abort();
      unit->capacity_changed();
      unit->reset();
      if (!target.detach(5) || target.find(0) != unit) std::abort();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // commands between attentions
    }
  });
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 3; ++i) threads.emplace_back(work, std::ref(*unit), i * 3);
  for (std::thread& thread : threads) thread.join();
  is_over = true;
  host.join();
  CHECK(unit.use_count() == 2);
}

}  // namespace
}  // namespace vhdkit::scsi
