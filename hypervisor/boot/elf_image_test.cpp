#include "hypervisor/boot/elf_image.h"

#include <doctest/doctest.h>

#include "hypervisor/boot/test_kernel.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::elf_image;
using tests::make_ram;
using tests::mib;
using tests::TestFile;
using tests::text_at;
using tests::value_at;

constexpr size_t load_header = 64;
constexpr size_t note_header = 120;

Result<Entry> load(GuestRam& ram, const TestFile& kernel, std::span<const std::byte> initrd = {}) {
  const auto map = memory_map(ram);
  REQUIRE(is_elf_image(kernel.bytes));
  return load_elf_image(ram, kernel.bytes,
                        {.initrd = initrd,
                         .command_line = "console=ttyS0",
                         .rsdp_address = 0xe0000,
                         .memory_map = map});
}

TEST_CASE("a kernel with a PVH entry is entered there, and finds its start info") {
  const auto ram = make_ram();
  const std::vector<std::byte> initrd(5000, std::byte{0x33});
  const auto entry = load(*ram, elf_image(), initrd);
  REQUIRE(entry);
  CHECK(entry->mode == Entry::Mode::protected_mode);
  CHECK(entry->instruction == 0x20'0010);
  CHECK(text_at(*ram, 0x20'0000, 6) == "kernel");
  CHECK(value_at<uint8_t>(*ram, 0x20'00ff) == 0x77);
  // hvm_start_info: magic, version, flags, nr_modules, modlist, cmdline, rsdp, memmap, entries.
  const uint64_t info = entry->boot_data;
  CHECK(value_at<uint32_t>(*ram, info) == 0x336ec578);
  CHECK(value_at<uint32_t>(*ram, info + 4) == 1);
  CHECK(value_at<uint32_t>(*ram, info + 12) == 1);
  const auto module = value_at<uint64_t>(*ram, info + 16);
  CHECK(value_at<uint64_t>(*ram, module) == 64 * mib - 8192);
  CHECK(value_at<uint64_t>(*ram, module + 8) == 5000);
  CHECK(text_at(*ram, value_at<uint64_t>(*ram, info + 24), 14) ==
        std::string("console=ttyS0\0", 14));
  CHECK(value_at<uint64_t>(*ram, info + 32) == 0xe0000);
  const auto map = value_at<uint64_t>(*ram, info + 40);
  CHECK(value_at<uint32_t>(*ram, info + 48) == 3);
  CHECK(value_at<uint64_t>(*ram, map + 2 * 24) == 1 * mib);
  CHECK(value_at<uint32_t>(*ram, map + 2 * 24 + 16) == 1);
  CHECK(value_at<uint64_t>(*ram, entry->gdt + 0x10) == 0x00cf'9b00'0000'ffff);
}

TEST_CASE("without that entry it is entered in 64-bit mode, with a zero page") {
  const auto ram = make_ram();
  const auto entry = load(*ram, elf_image().put(0x188, uint32_t{17}));
  REQUIRE(entry);
  CHECK(entry->mode == Entry::Mode::long_mode);
  CHECK(entry->instruction == 0x20'0040);
  CHECK(text_at(*ram, entry->boot_data + 0x202, 4) == "HdrS");
  CHECK(value_at<uint64_t>(*ram, entry->boot_data + 0x70) == 0xe0000);
}

TEST_CASE("files for another machine are refused") {
  const auto ram = make_ram();
  REQUIRE_FAILS(Errc::unsupported, "class 1", load(*ram, elf_image().put(4, uint8_t{1})));
  REQUIRE_FAILS(Errc::unsupported, "machine 183", load(*ram, elf_image().put(18, uint16_t{183})));
  REQUIRE_FAILS(Errc::unsupported, "type 1", load(*ram, elf_image().put(16, uint16_t{1})));
}

TEST_CASE("headers that the file contradicts are corrupt") {
  const auto ram = make_ram();
  TestFile short_file = elf_image();
  short_file.bytes.resize(40);
  REQUIRE_FAILS(Errc::corrupt, "40 bytes", load(*ram, short_file));
  REQUIRE_FAILS(Errc::corrupt, "program headers of 55 bytes",
                load(*ram, elf_image().put(54, uint16_t{55})));
  REQUIRE_FAILS(Errc::corrupt, "past the file's end",
                load(*ram, elf_image().put(32, ~uint64_t{0} - 8)));
  REQUIRE_FAILS(Errc::corrupt, "past the file's end",
                load(*ram, elf_image().put(56, uint16_t{1000})));
  REQUIRE_FAILS(Errc::corrupt, "no segment", load(*ram, elf_image().put(load_header, uint32_t{6})));
}

TEST_CASE("segments that lie outside the file, the memory or each other are corrupt") {
  const auto ram = make_ram();
  const auto with = [](size_t field, uint64_t value) {
    return elf_image().put(load_header + field, value);
  };
  REQUIRE_FAILS(Errc::corrupt, "past the file's end", load(*ram, with(8, ~uint64_t{0})));
  REQUIRE_FAILS(Errc::corrupt, "past the file's end", load(*ram, with(32, 0x1000)));
  REQUIRE_FAILS(Errc::corrupt, "in memory", load(*ram, with(40, 0xff)));
  REQUIRE_FAILS(Errc::corrupt, "does not lie between", load(*ram, with(24, 0x8000)));
  REQUIRE_FAILS(Errc::corrupt, "does not lie between", load(*ram, with(24, ~uint64_t{0} - 0x100)));
  REQUIRE_FAILS(Errc::corrupt, "does not lie between", load(*ram, with(40, ~uint64_t{0})));
  REQUIRE_FAILS(Errc::invalid_argument, "give it more", load(*ram, with(40, 128 * mib)));
  // The note's header made a second segment inside the first.
  TestFile overlapping = elf_image();
  overlapping.put(note_header, uint32_t{1}).put(note_header + 24, uint64_t{0x20'1000});
  REQUIRE_FAILS(Errc::corrupt, "overlap", load(*ram, overlapping));
  REQUIRE_FAILS(Errc::corrupt, "is in no segment",
                load(*ram, elf_image().put(0x190, uint32_t{0x30'0000})));
}

TEST_CASE("notes whose sizes lie are corrupt") {
  const auto ram = make_ram();
  REQUIRE_FAILS(Errc::corrupt, "a note with a name of",
                load(*ram, elf_image().put(0x180, uint32_t{0xffff'fffc})));
  REQUIRE_FAILS(Errc::corrupt, "a note with a name of",
                load(*ram, elf_image().put(0x184, uint32_t{0xffff'fffc})));
  REQUIRE_FAILS(Errc::corrupt, "not 4 or 8", load(*ram, elf_image().put(0x184, uint32_t{2})));
  REQUIRE_FAILS(Errc::corrupt, "less than one",
                load(*ram, elf_image().put(note_header + 32, uint64_t{8})));
}

}  // namespace
}  // namespace vhdkit::hypervisor
