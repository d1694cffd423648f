#include "hypervisor/kvm/memory_ahead.h"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "hypervisor/kvm/guest_ram.h"

namespace vhdkit::hypervisor {
namespace {

constexpr size_t mib = size_t{1} << 20;

bool is_there(const std::byte* page) {
  unsigned char state = 0;
  REQUIRE(mincore(const_cast<std::byte*>(page), 1, &state) == 0);
  return (state & 1) != 0;
}

TEST_CASE("memory is there before it is written to, from the end on, and is all zeroes") {
  const auto ram = GuestRam::create(16 * mib, GuestRam::Pages::small);
  REQUIRE(ram);
  // Neither its beginning nor its end is a page's.
  const auto memory = (*ram)->range(mib + 1, 12 * mib);
  {
    const MemoryAhead ahead({memory});
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    const std::byte* const last = memory.data() + (3 * mib - 1);
    while (!is_there(last - (last - (*ram)->page(0)) % 4096) &&
           std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    CHECK(is_there((*ram)->page(256 * 4)));
    CHECK(is_there((*ram)->page(256 * 13)));
  }
  CHECK_FALSE(is_there((*ram)->page(0)));
  CHECK_FALSE(is_there((*ram)->page(256 * 13 + 1)));
  CHECK(std::ranges::all_of(memory, [](std::byte value) { return value == std::byte{0}; }));
}

TEST_CASE("one piece comes after the other") {
  const auto ram = GuestRam::create(32 * mib, GuestRam::Pages::small);
  REQUIRE(ram);
  {
    const MemoryAhead ahead(
        {(*ram)->range(0, 8 * mib), (*ram)->range(8 * mib, mib), (*ram)->range(16 * mib, 8 * mib)});
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!is_there((*ram)->page(256 * 16)) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::yield();
    CHECK(is_there((*ram)->page(0)));
    CHECK(is_there((*ram)->page(256 * 16)));
  }
  // Too little to be worth it, and what is in no piece.
  CHECK_FALSE(is_there((*ram)->page(256 * 8)));
  CHECK_FALSE(is_there((*ram)->page(256 * 12)));
}

TEST_CASE("its thread begins with what it is told to") {
  const auto ram = GuestRam::create(16 * mib, GuestRam::Pages::small);
  REQUIRE(ram);
  std::thread::id thread;
  {
    const MemoryAhead ahead({(*ram)->range(0, 8 * mib)},
                            [&] { thread = std::this_thread::get_id(); });
  }
  CHECK(thread != std::thread::id());
  CHECK(thread != std::this_thread::get_id());
}

TEST_CASE("what is written meanwhile stays") {
  const auto ram = GuestRam::create(64 * mib);
  REQUIRE(ram);
  const auto memory = (*ram)->range(0, 64 * mib);
  {
    const MemoryAhead ahead({memory});
    for (size_t at = 0; at < memory.size(); at += 4096) memory[at] = std::byte{0x5a};
  }
  for (size_t at = 0; at < memory.size(); at += 4096) REQUIRE(memory[at] == std::byte{0x5a});
}

}  // namespace
}  // namespace vhdkit::hypervisor
