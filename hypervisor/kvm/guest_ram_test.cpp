#include "hypervisor/kvm/guest_ram.h"

#include <doctest/doctest.h>

#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint64_t mib = uint64_t{1} << 20;

TEST_CASE("memory begins at 0 and leaves the devices' gap out") {
  const auto small = GuestRam::create(64 * mib);
  REQUIRE(small);
  REQUIRE((*small)->regions().size() == 1);
  CHECK((*small)->regions()[0].end() == 64 * mib);
  const auto large = GuestRam::create(4096 * mib);
  REQUIRE(large);
  REQUIRE((*large)->regions().size() == 2);
  CHECK((*large)->regions()[0].end() == 0xc000'0000);
  CHECK((*large)->regions()[1].address == 0x1'0000'0000);
  CHECK((*large)->regions()[1].byte_count == 1024 * mib);
}

TEST_CASE("pages are found where they are, and nowhere else") {
  const auto created = GuestRam::create(4096 * mib);
  REQUIRE(created);
  GuestRam& ram = **created;
  std::byte* const first = ram.page(0);
  REQUIRE(first != nullptr);
  CHECK(ram.page(5) == first + 5 * 4096);
  CHECK(ram.page(0xbffff) == first + (3072 * mib - 4096));
  CHECK(ram.page(0xc0000) == nullptr);
  CHECK(ram.page(0xfffff) == nullptr);
  CHECK(ram.page(0x100000) == first + 3072 * mib);
  CHECK(ram.page(0x13ffff) != nullptr);
  CHECK(ram.page(0x140000) == nullptr);
  CHECK(ram.page(~uint64_t{0}) == nullptr);
  CHECK(ram.page((uint64_t{1} << 52) + 1) == nullptr);
}

TEST_CASE("ranges are whole or not at all") {
  const auto created = GuestRam::create(16 * mib);
  REQUIRE(created);
  GuestRam& ram = **created;
  CHECK(ram.range(16 * mib - 8, 8).size() == 8);
  CHECK(ram.range(16 * mib - 8, 9).empty());
  CHECK(ram.range(16 * mib, 0).empty());
  CHECK(ram.range(8, ~uint64_t{0}).empty());
  const std::byte bytes[] = {std::byte{1}, std::byte{2}};
  REQUIRE_OK(ram.write(4095, bytes));
  CHECK(ram.page(1)[0] == std::byte{2});
  CHECK_FALSE(ram.write(16 * mib - 1, bytes));
  REQUIRE_OK(ram.clear());
  CHECK(ram.page(1)[0] == std::byte{0});
}

TEST_CASE("a part is cleared, and what lies beside it is not") {
  const auto created = GuestRam::create(16 * mib, GuestRam::Pages::small);
  REQUIRE(created);
  GuestRam& ram = **created;
  const std::vector<std::byte> bytes(5 * 4096, std::byte{0x5a});
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{4096, 8192},
                                   {4095, 8193},
                                   {1, 4095},
                                   {100, 5000},
                                   {0, 5 * 4096}}) {
    CAPTURE(begin);
    REQUIRE_OK(ram.write(8192, bytes));
    REQUIRE_OK(ram.clear(8192 + begin, end - begin));
    const auto found = ram.range(8192, bytes.size());
    for (size_t at = 0; at < bytes.size(); ++at)
      REQUIRE(found[at] == (at >= begin && at < end ? std::byte{0} : std::byte{0x5a}));
  }
  REQUIRE_FAILS(Errc::out_of_range, "not all RAM", ram.clear(16 * mib - 4096, 8192));
}

TEST_CASE("memory that no guest can have is refused") {
  REQUIRE_FAILS(Errc::invalid_argument, "at least 16 MiB", GuestRam::create(8 * mib));
  REQUIRE_FAILS(Errc::invalid_argument, "a multiple of 2 MiB", GuestRam::create(17 * mib));
  const auto huge = GuestRam::create(uint64_t{1} << 46);
  CHECK_FALSE(huge);
}

}  // namespace
}  // namespace vhdkit::hypervisor
