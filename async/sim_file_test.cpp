#include "async/sim_file.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>

#include "async/task_group.h"
#include "tests/support/await.h"

namespace vhdkit::async {
namespace {

constexpr uint64_t record_bytes = 4096;
constexpr uint64_t crash_count = 200;

std::vector<std::byte> record(uint8_t value) {
  return std::vector<std::byte>(record_bytes, std::byte{value});
}

// How many of the record's sectors hold the value.
size_t sectors_with(const MemoryFile& file, uint64_t file_offset, uint8_t value) {
  size_t count = 0;
  std::vector<std::byte> sector(SimFile::sector_bytes);
  for (uint64_t at = 0; at < record_bytes; at += sector.size()) {
    file.fetch(file_offset + at, sector);
    REQUIRE(std::ranges::count(sector, sector[0]) == ptrdiff_t(sector.size()));
    count += sector[0] == std::byte{value} ? 1 : 0;
  }
  return count;
}

struct Twin {
  SimLoop loop;
  SimFile file;
  explicit Twin(uint64_t seed) : loop(seed), file(loop, MemoryFile("twin")) {}

  void write(uint64_t file_offset, uint8_t value) {
    const std::vector<std::byte> bytes = record(value);
    const std::span<const std::byte> span(bytes);
    REQUIRE_OK(loop.run(file.write(file_offset, span)));
  }
};

TEST_CASE("a crash takes nothing that was flushed, and anything that was not, by sectors") {
  Twin twin(1);
  twin.write(0, 1);
  REQUIRE_OK(twin.loop.run(twin.file.flush()));
  twin.write(0, 2);
  twin.write(record_bytes, 3);
  bool lost = false;
  bool kept = false;
  bool torn = false;
  bool short_file = false;
  for (uint64_t i = 0; i < crash_count; ++i) {
    const MemoryFile state = twin.file.crash_state(twin.loop.random());
    const size_t news = sectors_with(state, 0, 2);
    CHECK(news + sectors_with(state, 0, 1) == 8);
    lost = lost || news == 0;
    kept = kept || news == 8;
    torn = torn || (news > 0 && news < 8);
    short_file = short_file || state.size_bytes() == record_bytes;
    CHECK((state.size_bytes() == record_bytes || state.size_bytes() == 2 * record_bytes));
  }
  CHECK((lost && kept && torn && short_file));
  CHECK(sectors_with(twin.file.content(), 0, 2) == 8);
}

TEST_CASE("a flush covers what had completed when it was called, and a durable write itself") {
  Twin twin(2);
  const std::vector<std::byte> bytes = record(7);
  const iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const Buffers buffers(&vector, 1);
  TaskGroup group;
  group.start(twin.file.writev(0, buffers, Durability::cached));  // still in flight
  group.start(twin.file.flush());
  REQUIRE_OK(twin.loop.run(group.finish()));
  bool lost = false;
  for (uint64_t i = 0; i < crash_count; ++i)
    lost = lost || sectors_with(twin.file.crash_state(twin.loop.random()), 0, 7) == 0;
  CHECK(lost);
  REQUIRE_OK(twin.loop.run(twin.file.writev(0, buffers, Durability::durable)));
  for (uint64_t i = 0; i < crash_count; ++i)
    CHECK(sectors_with(twin.file.crash_state(twin.loop.random()), 0, 7) == 8);
}

TEST_CASE("what a durable write replaced does not come back") {
  Twin twin(5);
  twin.write(0, 1);
  const std::vector<std::byte> bytes(1024, std::byte{2});
  const iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const Buffers buffers(&vector, 1);
  REQUIRE_OK(twin.loop.run(twin.file.writev(512, buffers, Durability::durable)));
  bool lost = false;
  for (uint64_t i = 0; i < crash_count; ++i) {
    const MemoryFile state = twin.file.crash_state(twin.loop.random());
    CHECK(sectors_with(state, 0, 2) == 2);
    lost = lost || sectors_with(state, 0, 1) < 6;
  }
  CHECK(lost);
}

TEST_CASE("a failed write has written some of its first sectors") {
  bool torn = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Twin twin(seed);
    twin.write(0, 1);
    twin.file.set_fault([](SimFile::Access access, uint64_t, uint64_t) {
      return access == SimFile::Access::write ? ENOSPC : 0;
    });
    const std::vector<std::byte> bytes = record(2);
    const std::span<const std::byte> span(bytes);
    const auto failed = twin.loop.run(twin.file.write(0, span));
    REQUIRE_FAILS(Errc::no_space, "twin", failed);
    const size_t news = sectors_with(twin.file.content(), 0, 2);
    CHECK(news + sectors_with(twin.file.content(), 0, 1) == 8);
    torn = torn || (news > 0 && news < 8);
    REQUIRE_OK(twin.loop.run(twin.file.flush()));
    CHECK(sectors_with(twin.file.crash_state(twin.loop.random()), 0, 2) == news);
  }
  CHECK(torn);
}

TEST_CASE("one seed gives one order of completions, another seed another") {
  const auto order_of = [](uint64_t seed) {
    Twin twin(seed);
    std::vector<std::vector<std::byte>> bytes;
    for (uint8_t i = 0; i < 8; ++i) bytes.push_back(record(i));
    TaskGroup group;
    for (const auto& one : bytes) group.start(twin.file.write(0, std::span(one)));
    REQUIRE_OK(twin.loop.run(group.finish()));
    std::vector<std::byte> last(1);
    twin.file.content().fetch(0, last);
    return last[0];
  };
  CHECK(order_of(5) == order_of(5));
  bool differs = false;
  for (uint64_t seed = 0; seed < 20; ++seed) differs = differs || order_of(seed) != order_of(5);
  CHECK(differs);
}

// The exemplar of a crash test: a counter in two slots, of which the older one is overwritten.
// Whatever a crash leaves, one slot is whole and not older than the last flush.
TEST_CASE("a counter in two slots survives a crash at every step") {
  Twin twin(4);
  uint8_t flushed = 0;
  uint8_t begun = 0;
  twin.loop.set_observer([&] {
    for (int i = 0; i < 5; ++i) {
      const MemoryFile state = twin.file.crash_state(twin.loop.random());
      uint8_t best = 0;
      for (uint8_t value = flushed; value <= begun; ++value)
        if (sectors_with(state, value % 2 * record_bytes, value) == 8) best = value;
      CHECK(best >= flushed);
    }
  });
  for (uint8_t value = 1; value < 50; ++value) {
    begun = value;
    twin.write(value % 2 * record_bytes, value);
    REQUIRE_OK(twin.loop.run(twin.file.flush()));
    flushed = value;
  }
}

}  // namespace
}  // namespace vhdkit::async
