#include "hypervisor/boot/memory_map.h"

#include <doctest/doctest.h>

#include "hypervisor/boot/test_kernel.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::make_ram;
using tests::mib;

// Of every map: what a PC has below 1 MiB.
const MemoryRange conventional{0, 0x9fc00, MemoryType::usable};
const MemoryRange firmware{0xe0000, 0x20000, MemoryType::reserved};

using Map = std::vector<MemoryRange>;

TEST_CASE("a small guest has its memory in one piece above 1 MiB") {
  const Map smallest = {conventional, firmware, {1 * mib, 15 * mib, MemoryType::usable}};
  CHECK(memory_map(*make_ram(16 * mib)) == smallest);
  const Map to_the_gap = {conventional, firmware, {1 * mib, 3071 * mib, MemoryType::usable}};
  CHECK(memory_map(*make_ram(3072 * mib)) == to_the_gap);
}

TEST_CASE("memory above 4 GiB is in the map, the devices' gap is not") {
  const Map expected = {conventional,
                        firmware,
                        {1 * mib, 3071 * mib, MemoryType::usable},
                        {4096 * mib, 2 * mib, MemoryType::usable}};
  CHECK(memory_map(*make_ram(3074 * mib)) == expected);
}

TEST_CASE("the code at the reset vector pulses the reset line, then halts for ever") {
  const auto ram = make_ram(16 * mib);
  REQUIRE_OK(write_reset_code(*ram));
  // F000:FFF0: mov al, 0xfe; out 0x64, al; hlt; jmp -3; and nothing behind it.
  CHECK(tests::text_at(*ram, 0xffff0, 16) ==
        std::string("\xb0\xfe\xe6\x64\xf4\xeb\xfd\0\0\0\0\0\0\0\0\0", 16));
}

}  // namespace
}  // namespace vhdkit::hypervisor
