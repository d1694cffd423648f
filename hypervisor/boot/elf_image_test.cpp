#include "hypervisor/boot/elf_image.h"

#include <doctest/doctest.h>

#include "hypervisor/boot/elf_file.h"
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
constexpr size_t notes = 0x180;

Result<Entry> load(GuestRam& ram, const TestFile& kernel, std::span<const std::byte> initrd = {}) {
  const auto map = memory_map(ram);
  REQUIRE(is_elf_file(kernel.bytes));
  return load_elf_image(ram, kernel.bytes,
                        {.initrd = initrd,
                         .command_line = "console=ttyS0",
                         .rsdp_address = 0xe0000,
                         .memory_map = map});
}

// System V ABI, "Note Section": the sizes of name and description, the type, and both; from notes
// on, of which the note's header then says that they end here.
void put_note(TestFile& file, size_t offset, std::string_view name, uint32_t type,
              std::string_view description, size_t alignment = 4) {
  const size_t description_offset = (12 + name.size() + alignment - 1) / alignment * alignment;
  file.put(offset, uint32_t(name.size())).put(offset + 4, uint32_t(description.size()));
  file.put(offset + 8, type).put_text(offset + 12, name);
  file.put_text(offset + description_offset, description);
  const uint64_t byte_count = offset - notes + description_offset + description.size();
  file.put(note_header + 32, byte_count).put(note_header + 40, byte_count);
  file.put(note_header + 48, uint64_t{alignment});
}

constexpr std::string_view xen("Xen\0", 4);
constexpr std::string_view entry_at_0x200018("\x18\x00\x20\x00\x00\x00\x00\x00", 8);

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

TEST_CASE("a kernel that is given no initrd finds no module") {
  const auto ram = make_ram();
  const auto entry = load(*ram, elf_image());
  REQUIRE(entry);
  CHECK(value_at<uint32_t>(*ram, entry->boot_data + 12) == 0);
  CHECK(value_at<uint64_t>(*ram, entry->boot_data + 16) == 0);
}

TEST_CASE("the PVH entry may have 8 bytes, and any note before it") {
  const auto ram = make_ram();
  TestFile kernel = elf_image();
  put_note(kernel, notes, xen, 18, entry_at_0x200018);
  auto entry = load(*ram, kernel);
  REQUIRE(entry);
  CHECK(entry->mode == Entry::Mode::protected_mode);
  CHECK(entry->instruction == 0x20'0018);

  // A name and a description that are padded: to 12 + 8 + 4 bytes.
  kernel = elf_image();
  put_note(kernel, notes, std::string_view("Linux\0", 6), 257, "ab");
  put_note(kernel, notes + 24, xen, 18, entry_at_0x200018.substr(0, 4));
  entry = load(*ram, kernel);
  REQUIRE(entry);
  CHECK(entry->instruction == 0x20'0018);

  // To 12 + 4 + 8 bytes, as GNU's are in a segment of that alignment.
  kernel = elf_image();
  put_note(kernel, notes, std::string_view("GNU\0", 4), 5, "abcd", 8);
  put_note(kernel, notes + 24, xen, 18, entry_at_0x200018.substr(0, 4), 8);
  entry = load(*ram, kernel);
  REQUIRE(entry);
  CHECK(entry->instruction == 0x20'0018);
}

TEST_CASE("notes of others are no PVH entry, and the last may come without its padding") {
  const auto ram = make_ram();
  TestFile kernel = elf_image();
  put_note(kernel, notes, std::string_view("GNU\0", 4), 18, entry_at_0x200018);
  put_note(kernel, notes + 24, std::string_view("Xen2\0", 5), 18, "a");
  const auto entry = load(*ram, kernel);
  REQUIRE(entry);
  CHECK(entry->mode == Entry::Mode::long_mode);
  CHECK(entry->instruction == 0x20'0040);
}

TEST_CASE("segments may come in any order, touch each other, and be empty") {
  const auto ram = make_ram();
  // The note's header made a second segment, at 1 MiB and up to the first.
  TestFile kernel = elf_image();
  kernel.put(note_header, uint32_t{1}).put(note_header + 8, uint64_t{0x201});
  kernel.put(note_header + 24, 1 * mib).put(note_header + 32, uint64_t{5});
  kernel.put(note_header + 40, 1 * mib);
  const auto entry = load(*ram, kernel);
  REQUIRE(entry);
  CHECK(text_at(*ram, 0x10'0000, 6) == std::string("ernel\0", 6));
  CHECK(text_at(*ram, 0x20'0000, 6) == "kernel");
  REQUIRE_FAILS(Errc::invalid_argument, "loaded at 0x100000 and needs RAM up to 66 MiB",
                load(*ram, TestFile(kernel).put(load_header + 40, 64 * mib)));
  kernel.put(note_header + 24, uint64_t{0}).put(note_header + 32, uint64_t{0});
  kernel.put(note_header + 40, uint64_t{0});
  CHECK(load(*ram, kernel));
}

TEST_CASE("an initrd lies beside all that a segment takes in memory") {
  const auto ram = make_ram();
  // Up to 8 KiB below the end of memory.
  const auto kernel = elf_image().put(load_header + 40, 62 * mib - 0x2000);
  const std::vector<std::byte> initrd(0x2000, std::byte{0x33});
  auto entry = load(*ram, kernel, initrd);
  REQUIRE(entry);
  uint64_t module = value_at<uint64_t>(*ram, entry->boot_data + 16);
  CHECK(value_at<uint64_t>(*ram, module) == 64 * mib - 0x2000);
  const std::vector<std::byte> longer(0x2001, std::byte{0x33});
  entry = load(*ram, kernel, longer);
  REQUIRE(entry);
  module = value_at<uint64_t>(*ram, entry->boot_data + 16);
  CHECK(value_at<uint64_t>(*ram, module) == 2 * mib - 0x3000);
  const std::vector<std::byte> huge(1 * mib + 1);
  REQUIRE_FAILS(Errc::invalid_argument, "an initrd of 1048577 bytes has no room",
                load(*ram, kernel, huge));
}

TEST_CASE("without that entry it is entered in 64-bit mode, with a zero page") {
  const auto ram = make_ram();
  const auto entry = load(*ram, elf_image().put(0x188, uint32_t{17}));
  REQUIRE(entry);
  CHECK(entry->mode == Entry::Mode::long_mode);
  CHECK(entry->instruction == 0x20'0040);
  CHECK(text_at(*ram, entry->boot_data + 0x202, 4) == "HdrS");
  CHECK(value_at<uint64_t>(*ram, entry->boot_data + 0x70) == 0xe0000);
  CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x210) == 0xff);
  CHECK(text_at(*ram, value_at<uint32_t>(*ram, entry->boot_data + 0x228), 14) ==
        std::string("console=ttyS0\0", 14));
  CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x1e8) == 3);
  CHECK(value_at<uint64_t>(*ram, entry->gdt + 0x10) == 0x00af'9b00'0000'ffff);
  CHECK((value_at<uint64_t>(*ram, entry->page_table) & 1) == 1);
}

TEST_CASE("files for another machine are refused") {
  const auto ram = make_ram();
  REQUIRE_FAILS(Errc::unsupported, "class 1", load(*ram, elf_image().put(4, uint8_t{1})));
  REQUIRE_FAILS(Errc::unsupported, "data 2", load(*ram, elf_image().put(5, uint8_t{2})));
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
                load(*ram, elf_image().put(56, uint16_t{64})));
  REQUIRE_FAILS(Errc::corrupt, "at most 64", load(*ram, elf_image().put(56, uint16_t{0xffff})));
  REQUIRE_FAILS(Errc::corrupt, "no segment", load(*ram, elf_image().put(load_header, uint32_t{6})));
  REQUIRE_FAILS(Errc::corrupt, "no segment", load(*ram, elf_image().put(56, uint16_t{0})));
}

TEST_CASE("a file that ends early is corrupt wherever it ends") {
  const auto ram = make_ram();
  const TestFile kernel = elf_image();
  for (size_t length = 4; length < kernel.bytes.size(); ++length) {
    TestFile cut = kernel;
    cut.bytes.resize(length);
    const auto entry = load(*ram, cut);
    CAPTURE(length);
    REQUIRE_FALSE(entry);
    REQUIRE(entry.error().code == Errc::corrupt);
  }
  CHECK_FALSE(is_elf_file(std::span(kernel.bytes).first(3)));
  CHECK_FALSE(is_elf_file({}));
}

TEST_CASE("segments that lie outside the file, the memory or each other are corrupt") {
  const auto ram = make_ram();
  const auto with = [](size_t field, uint64_t value) {
    return elf_image().put(load_header + field, value);
  };
  REQUIRE_FAILS(Errc::corrupt, "past the file's end", load(*ram, with(8, ~uint64_t{0})));
  REQUIRE_FAILS(Errc::corrupt, "past the file's end", load(*ram, with(32, 0x1000)));
  REQUIRE_FAILS(Errc::corrupt, "in memory", load(*ram, with(40, 0xff)));
  REQUIRE_FAILS(Errc::corrupt, "256 bytes in the file and 0 in memory", load(*ram, with(40, 0)));
  REQUIRE_FAILS(Errc::corrupt, "does not lie between", load(*ram, with(24, 0xf'ffff)));
  REQUIRE_FAILS(Errc::corrupt, "does not lie between", load(*ram, with(40, 3070 * mib + 1)));
  REQUIRE_FAILS(Errc::invalid_argument, "give it more", load(*ram, with(40, 3070 * mib)));
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

TEST_CASE("a command line that is longer than any x86 kernel takes is refused") {
  const auto ram = make_ram();
  const TestFile kernel = elf_image();
  const auto map = memory_map(*ram);
  const std::string longest(2047, 'a');
  CHECK(load_elf_image(*ram, kernel.bytes, {.command_line = longest, .memory_map = map}));
  const std::string too_long(2048, 'a');
  REQUIRE_FAILS(Errc::invalid_argument, "2048 bytes",
                load_elf_image(*ram, kernel.bytes, {.command_line = too_long, .memory_map = map}));
}

TEST_CASE("notes are read up to a limit, however often headers name them") {
  const auto ram = make_ram();
  TestFile file = elf_image().put(note_header + 32, uint64_t{(1 << 20) + 4});
  file.bytes.resize(0x180 + (1 << 20) + 4);
  REQUIRE_FAILS(Errc::corrupt, "bytes of notes", load(*ram, file));
}

TEST_CASE("notes whose sizes lie are corrupt") {
  const auto ram = make_ram();
  for (const size_t byte_count : {0, 3, 5, 7, 9, 16}) {
    TestFile kernel = elf_image();
    put_note(kernel, notes, xen, 18, std::string(byte_count, '\0'));
    kernel.put(0x190, uint32_t{0x20'0010});
    CAPTURE(byte_count);
    REQUIRE_FAILS(Errc::corrupt, "not 4 or 8", load(*ram, kernel));
  }
  // Below 4 GiB it would be in the segment.
  TestFile high = elf_image();
  put_note(high, notes, xen, 18, std::string_view("\x10\x00\x20\x00\x01\x00\x00\x00", 8));
  REQUIRE_FAILS(Errc::corrupt, "entry point 0x100200010 is in no segment", load(*ram, high));
  REQUIRE_FAILS(Errc::corrupt, "past the file's end",
                load(*ram, elf_image().put(note_header + 8, ~uint64_t{0} - 8)));
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
