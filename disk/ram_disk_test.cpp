#include "disk/ram_disk.h"

#include <doctest/doctest.h>

#include <vector>

#include "support/bytes.h"
#include "tests/support/await.h"

namespace vhdkit::disk {
namespace {

TEST_CASE("a disk checks range, alignment and write permission before its driver is asked") {
  RamDisk disk(
      {.size_bytes = 64 * 4096, .logical_sector_bytes = 4096, .physical_sector_bytes = 4096});
  std::vector<std::byte> sector(4096, std::byte{1});
  REQUIRE_OK(tests::await(disk.write(4096, sector)));
  REQUIRE_FAILS(Errc::invalid_argument, "whole sectors", tests::await(disk.write(512, sector)));
  REQUIRE_FAILS(Errc::out_of_range, "outside", tests::await(disk.write(64 * 4096, sector)));
  const std::span<std::byte> half(sector.data(), 512);
  REQUIRE_FAILS(Errc::invalid_argument, "whole sectors", tests::await(disk.read(0, half)));
}

TEST_CASE("a RAM disk tells data from zeroes, and zero makes zeroes") {
  RamDisk disk({.size_bytes = 1 << 20});
  std::vector<std::byte> data(8192, std::byte{7});
  REQUIRE_OK(tests::await(disk.write(16384, data)));
  ExtentList extents;
  REQUIRE_OK(tests::await(disk.extents(0, 1 << 20, extents)));
  REQUIRE(extents.size() == 3);
  CHECK(extents[1].kind == ExtentKind::data);
  CHECK(extents[1].length == 8192);
  REQUIRE_OK(tests::await(disk.zero(16384, 8192)));
  REQUIRE_OK(tests::await(disk.read(16384, data)));
  CHECK(is_zero(data));
}

}  // namespace
}  // namespace vhdkit::disk
