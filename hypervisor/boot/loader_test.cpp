#include "hypervisor/boot/loader.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "hypervisor/boot/acpi.h"
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

TEST_CASE("the tables are for as many processors as the guest has") {
  const auto ram = make_ram();
  const auto kernel = tests::bz_image();
  for (const unsigned count : {1U, 2U, 32U}) {
    REQUIRE_OK(load_kernel(*ram, {.kernel = kernel.bytes, .command_line = "", .vp_count = count}));
    const auto tables = acpi_tables(0xe0000, count);
    CHECK(std::ranges::equal(ram->range(0xe0000, tables.size()), tables));
  }
}

TEST_CASE(
    "a kernel gets the initrd, the command line and the map that the image and the RAM have") {
  const auto ram = make_ram(4096 * mib);
  const auto kernel = tests::bz_image();
  const std::vector<std::byte> initrd(4096, std::byte{0x33});
  const auto entry = load_kernel(
      *ram, {.kernel = kernel.bytes, .initrd = initrd, .command_line = "console=ttyS0"});
  REQUIRE(entry);
  const uint64_t page = entry->boot_data;
  CHECK(tests::value_at<uint64_t>(*ram, page + 0x070) == 0xe0000);
  CHECK(tests::text_at(*ram, tests::value_at<uint32_t>(*ram, page + 0x228), 14) ==
        std::string("console=ttyS0\0", 14));
  // initrd_addr_max keeps it below 2 GiB.
  CHECK(tests::value_at<uint32_t>(*ram, page + 0x218) == 2048 * mib - 4096);
  // The fourth entry: what lies above the devices' gap.
  CHECK(tests::value_at<uint8_t>(*ram, page + 0x1e8) == 4);
  CHECK(tests::value_at<uint64_t>(*ram, page + 0x2d0 + 60) == 4096 * mib);
  CHECK(tests::value_at<uint64_t>(*ram, page + 0x2d0 + 68) == 1024 * mib);
}

TEST_CASE("a guest with too little memory is refused, whatever its kernel") {
  const auto ram = make_ram(16 * mib);
  const auto linux_image = tests::bz_image();
  REQUIRE_FAILS(Errc::invalid_argument, "needs RAM up to 24 MiB; the guest has 16 MiB",
                load_kernel(*ram, {.kernel = linux_image.bytes, .command_line = ""}));
  // p_memsz of the first segment, which lies at 2 MiB.
  const auto elf = tests::elf_image().put(64 + 40, 14 * mib + 1);
  REQUIRE_FAILS(Errc::invalid_argument, "needs RAM up to 17 MiB; the guest has 16 MiB",
                load_kernel(*ram, {.kernel = elf.bytes, .command_line = ""}));
}

TEST_CASE("a guest has a processor, and no more than there can be") {
  const auto ram = make_ram();
  const auto kernel = tests::bz_image();
  REQUIRE_FAILS(Errc::invalid_argument, "0 processors",
                load_kernel(*ram, {.kernel = kernel.bytes, .command_line = "", .vp_count = 0}));
  REQUIRE_FAILS(Errc::invalid_argument, "33 processors",
                load_kernel(*ram, {.kernel = kernel.bytes, .command_line = "", .vp_count = 33}));
}

}  // namespace
}  // namespace vhdkit::hypervisor
