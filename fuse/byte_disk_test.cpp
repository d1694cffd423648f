#include "fuse/byte_disk.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "async/forwarding_file.h"
#include "async/sim_file.h"
#include "async/sim_loop.h"
#include "async/task_group.h"
#include "disk/layered_disk.h"
#include "disk/ram_disk.h"
#include "disk/raw_layer.h"
#include "tests/support/await.h"

namespace vhdkit::fuse {
namespace {

constexpr uint64_t disk_bytes = 256 * 1024;

std::vector<std::byte> read_all(ByteDisk& disk) {
  std::vector<std::byte> content(disk.size_bytes());
  REQUIRE_OK(tests::await(disk.read(0, content)));
  return content;
}

TEST_CASE("reads, writes and zeroes of any length at any byte are those of a file") {
  for (const uint32_t sector_bytes : {512U, 4096U}) {
    CAPTURE(sector_bytes);
    disk::RamDisk ram(
        {.size_bytes = disk_bytes, .logical_sector_bytes = sector_bytes, .read_only = false});
    ByteDisk disk(ram);
    std::vector<std::byte> model(disk_bytes);
    std::mt19937_64 random(sector_bytes);
    for (int i = 0; i < 2000; ++i) {
      const uint64_t length = random() % 3 == 0 ? random() % 20000 : random() % 700;
      const uint64_t offset = random() % (disk_bytes - length);
      const auto part = std::span(model).subspan(offset, length);
      if (random() % 4 == 0) {
        REQUIRE_OK(tests::await(disk.zero(offset, length)));
        std::ranges::fill(part, std::byte{0});
      } else {
        const std::vector<std::byte> bytes(length, std::byte(i));
        REQUIRE_OK(tests::await(disk.write(offset, bytes, Durability::cached)));
        std::ranges::copy(bytes, part.begin());
      }
      std::vector<std::byte> found(length);
      REQUIRE_OK(tests::await(disk.read(offset, found)));
      REQUIRE(std::ranges::equal(found, part));
    }
    CHECK(read_all(disk) == model);
  }
}

Async<void> write_own_bytes(ByteDisk& disk, uint64_t first, uint64_t stride, std::byte value) {
  const std::vector<std::byte> bytes(100, value);
  const std::span<const std::byte> all(bytes);
  for (uint64_t offset = first; offset + bytes.size() <= disk.size_bytes(); offset += stride)
    CO_TRY(co_await disk.write(offset, all, Durability::cached));
  co_return Result<void>();
}

Async<void> write_side_by_side(ByteDisk& disk) {
  async::TaskGroup writers;
  for (uint64_t writer = 0; writer < 5; ++writer)
    writers.start(write_own_bytes(disk, writer * 100, 512, std::byte(writer + 1)));
  co_return co_await writers.finish();
}

std::unique_ptr<disk::LayeredDisk> disk_on(File& file) {
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(
      std::make_unique<disk::RawLayer>(std::make_unique<async::ForwardingFile>(file), true));
  return std::make_unique<disk::LayeredDisk>(std::move(layers));
}

TEST_CASE("writers of the same sectors do not lose each other's bytes, in whatever order") {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    async::SimLoop loop(seed);
    async::MemoryFile empty("disk");
    REQUIRE_OK(empty.resize(16 * 1024));
    async::SimFile file(loop, empty);
    const auto layered = disk_on(file);
    ByteDisk disk(*layered);
    REQUIRE_OK(loop.run(write_side_by_side(disk)));
    std::vector<std::byte> content(disk.size_bytes());
    file.content().fetch(0, content);
    for (uint64_t offset = 0; offset < content.size(); ++offset) {
      const uint64_t writer = offset % 512 / 100;
      REQUIRE(content[offset] == std::byte(writer < 5 ? writer + 1 : 0));
    }
  }
}

TEST_CASE("data and holes are found, and the end where there are none") {
  disk::RamDisk ram({.size_bytes = disk_bytes, .logical_sector_bytes = 512, .read_only = false});
  ByteDisk disk(ram);
  const std::vector<std::byte> bytes(8192, std::byte{1});
  REQUIRE_OK(tests::await(disk.write(65536, bytes, Durability::cached)));
  const auto find = [&disk](uint64_t from, bool data) {
    const auto found = tests::await(disk.find(from, disk_bytes, data));
    REQUIRE_OK(found);
    return *found;
  };
  CHECK(find(0, true) == 65536);
  CHECK(find(0, false) == 0);
  CHECK(find(65537, true) == 65537);
  CHECK(find(65537, false) == 65536 + 8192);
  CHECK(find(65536 + 8192, true) == disk_bytes);
}

}  // namespace
}  // namespace vhdkit::fuse
