#include "hypervisor/boot/loader.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "hypervisor/boot/memory_map.h"
#include "hypervisor/boot/test_kernel.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::make_ram;
using tests::mib;

TEST_CASE("both kinds of kernels are known by their content") {
  const auto ram = make_ram();
  const auto linux_image = tests::bz_image();
  CHECK(load_kernel(*ram, {.kernel = linux_image.bytes, .command_line = "", .vp_count = 2}));
  const auto elf = tests::elf_image();
  CHECK(load_kernel(*ram, {.kernel = elf.bytes, .command_line = "", .vp_count = 2}));
  const std::vector<std::byte> text(1000, std::byte{'a'});
  REQUIRE_FAILS(Errc::corrupt, "no kernel: neither a bzImage",
                load_kernel(*ram, {.kernel = text, .command_line = ""}));
  REQUIRE_FAILS(Errc::corrupt, "no kernel", load_kernel(*ram, {.kernel = {}, .command_line = ""}));
}

TEST_CASE("ACPI's root pointer and the code at the reset vector are in reserved memory") {
  const auto ram = make_ram();
  const auto kernel = tests::bz_image();
  REQUIRE(load_kernel(*ram, {.kernel = kernel.bytes, .command_line = ""}));
  CHECK(tests::text_at(*ram, 0xe0000, 8) == "RSD PTR ");
  // mov al, 0xfe; out 0x64, al; hlt; jmp -3
  CHECK(tests::text_at(*ram, 0xffff0, 7) == "\xb0\xfe\xe6\x64\xf4\xeb\xfd");
  const auto map = memory_map(*ram);
  const MemoryRange firmware{0xe0000, 0x20000, MemoryType::reserved};
  CHECK(std::ranges::count(map, firmware) == 1);
}

TEST_CASE("memory above 4 GiB is in the map, the devices' gap is not") {
  const auto ram = make_ram(4096 * mib);
  const auto map = memory_map(*ram);
  const MemoryRange high{0x1'0000'0000, 1024 * mib, MemoryType::usable};
  CHECK(map.back() == high);
  CHECK(map[map.size() - 2].address + map[map.size() - 2].byte_count == 0xc000'0000);
}

TEST_CASE("more processors than there can be are refused") {
  const auto ram = make_ram();
  const auto kernel = tests::bz_image();
  REQUIRE_FAILS(Errc::invalid_argument, "33 processors",
                load_kernel(*ram, {.kernel = kernel.bytes, .command_line = "", .vp_count = 33}));
}

}  // namespace
}  // namespace vhdkit::hypervisor
