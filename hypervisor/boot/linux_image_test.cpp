#include "hypervisor/boot/linux_image.h"

#include <doctest/doctest.h>

#include "hypervisor/boot/test_kernel.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::bz_image;
using tests::make_ram;
using tests::mib;
using tests::TestFile;
using tests::text_at;
using tests::value_at;

Result<Entry> load(GuestRam& ram, const TestFile& kernel, std::string_view command_line = "quiet",
                   std::span<const std::byte> initrd = {}) {
  const auto map = memory_map(ram);
  REQUIRE(is_linux_image(kernel.bytes));
  return load_linux_image(
      ram, kernel.bytes,
      {.initrd = initrd, .command_line = command_line, .rsdp_address = 0xe0000, .memory_map = map});
}

TEST_CASE("a kernel lies where it prefers to be, and is entered 0x200 behind that") {
  const auto ram = make_ram();
  const auto entry = load(*ram, bz_image());
  REQUIRE(entry);
  CHECK(entry->mode == Entry::Mode::long_mode);
  CHECK(entry->instruction == 0x100'0200);
  CHECK(text_at(*ram, 0x100'0000, 6) == "kernel");
  CHECK(value_at<uint8_t>(*ram, 0x100'0000 + 8191) == 0x77);
}

TEST_CASE("the zero page has the header back, and says all that a loader says") {
  const auto ram = make_ram();
  const std::vector<std::byte> initrd(10000, std::byte{0x33});
  const auto entry = load(*ram, bz_image(), "root=/dev/sda", initrd);
  REQUIRE(entry);
  const uint64_t page = entry->boot_data;
  CHECK(text_at(*ram, page + 0x202, 4) == "HdrS");
  CHECK(value_at<uint64_t>(*ram, page + 0x258) == 0x100'0000);
  CHECK(value_at<uint8_t>(*ram, page + 0x210) == 0xff);
  CHECK(value_at<uint64_t>(*ram, page + 0x070) == 0xe0000);
  const auto command_line = value_at<uint32_t>(*ram, page + 0x228);
  CHECK(text_at(*ram, command_line, 14) == std::string("root=/dev/sda\0", 14));
  // As high as it fits, on a page.
  CHECK(value_at<uint32_t>(*ram, page + 0x218) == 64 * mib - 12288);
  CHECK(value_at<uint32_t>(*ram, page + 0x21c) == 10000);
  CHECK(value_at<uint8_t>(*ram, 64 * mib - 12288 + 9999) == 0x33);
  CHECK(value_at<uint8_t>(*ram, page + 0x1e8) == 3);
  CHECK(value_at<uint64_t>(*ram, page + 0x2d0) == 0);
  CHECK(value_at<uint64_t>(*ram, page + 0x2d8) == 0x9fc00);
  CHECK(value_at<uint32_t>(*ram, page + 0x2e0) == 1);
  CHECK(value_at<uint32_t>(*ram, page + 0x2d0 + 20 + 16) == 2);
  CHECK(value_at<uint64_t>(*ram, page + 0x2d0 + 40) == 1 * mib);
  CHECK(value_at<uint64_t>(*ram, page + 0x2d0 + 48) == 63 * mib);
}

TEST_CASE("the zero page's header has all of the kernel's own, and nothing of what follows it") {
  const auto ram = make_ram();
  // 2.12's ends at 0x268, and the file goes on with code; 0x290 is as far as there is room.
  for (const uint32_t end : {0x268U, 0x290U}) {
    TestFile kernel = bz_image();
    kernel.put(0x206, uint16_t{0x020c}).put(0x201, uint8_t(end - 0x202));
    kernel.put(0x20e, uint16_t{0x3456}).put(end - 4, uint32_t{0x1234'5678});
    kernel.put(end, uint32_t{0xdead'beef});
    REQUIRE_OK(ram->clear());
    const auto entry = load(*ram, kernel);
    REQUIRE(entry);
    CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x1f1) == 1);
    CHECK(value_at<uint16_t>(*ram, entry->boot_data + 0x20e) == 0x3456);
    CHECK(value_at<uint32_t>(*ram, entry->boot_data + end - 4) == 0x1234'5678);
    CHECK(value_at<uint32_t>(*ram, entry->boot_data + end) == 0);
  }
}

TEST_CASE("fields that are the loader's do not come from the file") {
  const auto ram = make_ram();
  TestFile kernel = bz_image();
  kernel.put(0x1fa, uint16_t{3}).put(0x214, uint32_t{0x5555'5555});            // code32_start
  kernel.put(0x218, uint32_t{0x1111'1111}).put(0x21c, uint32_t{0x2222'2222});  // ramdisk
  kernel.put(0x228, uint32_t{0x3333'3333}).put(0x250, uint64_t{0x4444'4444});  // setup_data
  const auto entry = load(*ram, kernel);
  REQUIRE(entry);
  const uint64_t page = entry->boot_data;
  CHECK(value_at<uint16_t>(*ram, page + 0x1fa) == 0xffff);  // vid_mode: "normal"
  CHECK(value_at<uint32_t>(*ram, page + 0x214) == 0x100'0000);
  CHECK(value_at<uint32_t>(*ram, page + 0x218) == 0);
  CHECK(value_at<uint32_t>(*ram, page + 0x21c) == 0);
  CHECK(text_at(*ram, value_at<uint32_t>(*ram, page + 0x228), 6) == std::string("quiet\0", 6));
  CHECK(value_at<uint64_t>(*ram, page + 0x250) == 0);
}

TEST_CASE("a kernel without a preference lies at 1 MiB, and setup_sects of 0 means 4") {
  const auto ram = make_ram();
  TestFile kernel = bz_image();
  kernel.put(0x258, uint64_t{0}).put(0x1f1, uint8_t{0});
  kernel.put_text(0xa00, "behind").put(0xa00 + 8191, uint8_t{0x78});
  const auto entry = load(*ram, kernel);
  REQUIRE(entry);
  CHECK(entry->instruction == 0x10'0200);
  CHECK(text_at(*ram, 0x10'0000, 6) == "behind");
  CHECK(value_at<uint8_t>(*ram, 0x10'0000 + 8191) == 0x78);
}

TEST_CASE("init_size counts from where the kernel will run") {
  const auto ram = make_ram(26 * mib);
  // 17 MiB, from where it moves itself to 18 MiB if it may only run at multiples of 2 MiB.
  const auto kernel = bz_image().put(0x258, 17 * mib).put(0x260, uint32_t{9 << 20});
  REQUIRE_FAILS(Errc::invalid_argument, "needs RAM up to 27 MiB", load(*ram, kernel));
  CHECK(load(*ram, TestFile(kernel).put(0x230, uint32_t{0x10'0000})));
  // It does not move itself; its alignment says nothing.
  CHECK(load(*ram, TestFile(kernel).put(0x234, uint8_t{0}).put(0x230, uint32_t{3})));
  CHECK(load(*ram, bz_image().put(0x260, uint32_t{10 << 20})));
  REQUIRE_FAILS(Errc::invalid_argument, "needs RAM up to 27 MiB",
                load(*ram, bz_image().put(0x260, uint32_t{(10 << 20) + 1})));
}

TEST_CASE("long mode finds flat segments and the first 4 GiB one to one") {
  const auto ram = make_ram();
  const auto entry = load(*ram, bz_image());
  REQUIRE(entry);
  CHECK(value_at<uint64_t>(*ram, entry->gdt + 0x10) == 0x00af'9b00'0000'ffff);
  CHECK(value_at<uint64_t>(*ram, entry->gdt + 0x18) == 0x00cf'9300'0000'ffff);
  CHECK(entry->gdt_bytes == 32);
  const uint64_t pointers = value_at<uint64_t>(*ram, entry->page_table) & ~uint64_t{0xfff};
  for (uint64_t gib = 0; gib < 4; ++gib) {
    const uint64_t directory = value_at<uint64_t>(*ram, pointers + gib * 8) & ~uint64_t{0xfff};
    for (const uint64_t index : {uint64_t{0}, uint64_t{511}}) {
      const auto page = value_at<uint64_t>(*ram, directory + index * 8);
      CHECK((page & 0x83) == 0x83);
      CHECK((page & ~uint64_t{0xfff}) == (gib << 30) + (index << 21));
    }
  }
}

TEST_CASE("an initrd does not lie over the kernel, nor above where the kernel wants it") {
  const auto ram = make_ram(32 * mib);
  // The kernel takes 16 to 24 MiB; 9 MiB fit neither above it nor, with 8 MiB less, elsewhere.
  const std::vector<std::byte> large(9 * mib);
  const auto below = load(*ram, bz_image(), "", large);
  REQUIRE(below);
  CHECK(value_at<uint32_t>(*ram, below->boot_data + 0x218) == 7 * mib);
  const auto limited = load(*ram, bz_image().put(0x22c, uint32_t{12 << 20}), "", large);
  REQUIRE(limited);
  CHECK(value_at<uint32_t>(*ram, limited->boot_data + 0x218) == 3 * mib);
  const std::vector<std::byte> huge(16 * mib);
  REQUIRE_FAILS(Errc::invalid_argument, "an initrd of 16777216 bytes has no room",
                load(*ram, bz_image(), "", huge));
}

TEST_CASE("an initrd takes all the room beside the kernel, and not a byte more") {
  const auto ram = make_ram(32 * mib);
  const auto address_of = [&](uint64_t byte_count) {
    const std::vector<std::byte> initrd(byte_count, std::byte{0x33});
    const auto entry = load(*ram, bz_image(), "", initrd);
    REQUIRE(entry);
    CHECK(text_at(*ram, 0x100'0000, 6) == "kernel");
    return value_at<uint32_t>(*ram, entry->boot_data + 0x218);
  };
  CHECK(address_of(8 * mib) == 24 * mib);
  CHECK(value_at<uint8_t>(*ram, 24 * mib) == 0x33);
  CHECK(value_at<uint8_t>(*ram, 32 * mib - 1) == 0x33);
  CHECK(address_of(8 * mib + 1) == 8 * mib - 4096);
  CHECK(address_of(15 * mib) == 1 * mib);
  const std::vector<std::byte> initrd(15 * mib + 1);
  REQUIRE_FAILS(Errc::invalid_argument, "no room", load(*ram, bz_image(), "", initrd));
}

TEST_CASE("a kernel that cannot be entered in 64-bit mode is refused by the field that says so") {
  const auto ram = make_ram();
  REQUIRE_FAILS(Errc::unsupported, "boot protocol 2.11",
                load(*ram, bz_image().put(0x206, uint16_t{0x020b})));
  REQUIRE_FAILS(Errc::unsupported, "no 64-bit entry",
                load(*ram, bz_image().put(0x236, uint16_t{0})));
  REQUIRE_FAILS(Errc::unsupported, "zImage", load(*ram, bz_image().put(0x211, uint8_t{0})));
  REQUIRE_FAILS(Errc::corrupt, "boot_flag", load(*ram, bz_image().put(0x1fe, uint16_t{0})));
}

TEST_CASE("files that are cut off or lie about their lengths are corrupt") {
  const auto ram = make_ram();
  TestFile in_header = bz_image();
  in_header.bytes.resize(0x240);
  REQUIRE_FAILS(Errc::corrupt, "the file ends at 0x240", load(*ram, in_header));
  TestFile in_longer_header = bz_image().put(0x201, uint8_t{0x290 - 0x202});
  in_longer_header.bytes.resize(0x280);
  REQUIRE_FAILS(Errc::corrupt, "the file ends at 0x280, in its header",
                load(*ram, in_longer_header));
  TestFile in_kernel = bz_image();
  in_kernel.bytes.resize(in_kernel.bytes.size() - 1);
  REQUIRE_FAILS(Errc::corrupt, "setup_sects and syssize", load(*ram, in_kernel));
  REQUIRE_FAILS(Errc::corrupt, "setup_sects and syssize",
                load(*ram, bz_image().put(0x1f1, uint8_t{255})));
  REQUIRE_FAILS(Errc::corrupt, "setup_sects and syssize",
                load(*ram, bz_image().put(0x1f4, uint32_t{0xffff'ffff})));
  REQUIRE_FAILS(Errc::corrupt, "the jump at 0x200",
                load(*ram, bz_image().put(0x201, uint8_t{0xff})));
  REQUIRE_FAILS(Errc::corrupt, "no power of two",
                load(*ram, bz_image().put(0x230, uint32_t{0x30'0000})));
  REQUIRE_FAILS(Errc::corrupt, "pref_address",
                load(*ram, bz_image().put(0x258, ~uint64_t{0} - 100)));
  REQUIRE_FAILS(Errc::corrupt, "no power of two", load(*ram, bz_image().put(0x230, uint32_t{0})));
  REQUIRE_FAILS(Errc::corrupt, "pref_address", load(*ram, bz_image().put(0x258, uint64_t{4096})));
  REQUIRE_FAILS(Errc::corrupt, "pref_address",
                load(*ram, bz_image().put(0x258, uint64_t{0xc000'0000})));
  REQUIRE_FAILS(Errc::invalid_argument, "give it more",
                load(*ram, bz_image().put(0x258, uint64_t{0xbfff'ffff})));
  // A header that would end before 2.12's or behind its room, and no jump at all.
  REQUIRE_FAILS(Errc::corrupt, "the jump at 0x200",
                load(*ram, bz_image().put(0x201, uint8_t{0x267 - 0x202})));
  REQUIRE_FAILS(Errc::corrupt, "the jump at 0x200",
                load(*ram, bz_image().put(0x201, uint8_t{0x291 - 0x202})));
  REQUIRE_FAILS(Errc::corrupt, "the jump at 0x200",
                load(*ram, bz_image().put(0x200, uint8_t{0xe9})));
}

TEST_CASE("a kernel that is shorter than its entry is corrupt, whatever its syssize") {
  const auto ram = make_ram();
  TestFile kernel = bz_image().put(0x1f4, uint32_t{0});
  kernel.bytes.resize(0x601);
  CHECK(load(*ram, kernel));
  kernel.bytes.resize(0x600);
  REQUIRE_FAILS(Errc::corrupt, "the file ends at 0x600", load(*ram, kernel));
}

TEST_CASE("a file that ends early is refused wherever it ends; what lies behind it is allowed") {
  const auto ram = make_ram();
  const TestFile kernel = bz_image();
  for (size_t length = 0x206; length < kernel.bytes.size(); ++length) {
    TestFile cut = kernel;
    cut.bytes.resize(length);
    const auto entry = load(*ram, cut);
    CAPTURE(length);
    REQUIRE_FALSE(entry);
    REQUIRE(entry.error().code == Errc::corrupt);
  }
  // A signature.
  CHECK(load(*ram, TestFile(kernel).put(kernel.bytes.size() + 1000, uint8_t{1})));
}

TEST_CASE("without HdrS at 0x202 it is no bzImage") {
  CHECK_FALSE(is_linux_image(bz_image().put(0x205, 's').bytes));
  CHECK_FALSE(is_linux_image({}));
  const TestFile kernel = bz_image();
  CHECK(is_linux_image(std::span(kernel.bytes).first(0x206)));
  CHECK_FALSE(is_linux_image(std::span(kernel.bytes).first(0x205)));
}

TEST_CASE("a guest that is too small, and a command line that is too long") {
  const auto ram = make_ram(16 * mib);
  REQUIRE_FAILS(Errc::invalid_argument, "give it more", load(*ram, bz_image()));
  const auto enough = make_ram();
  REQUIRE_FAILS(Errc::invalid_argument, "give it more",
                load(*enough, bz_image().put(0x260, uint32_t{0xffff'ffff})));
  CHECK(load(*enough, bz_image(), std::string(2047, 'a')));
  REQUIRE_FAILS(Errc::invalid_argument, "2048 bytes",
                load(*enough, bz_image(), std::string(2048, 'a')));
  // However much a kernel takes, there is only so much room for it.
  const TestFile greedy = bz_image().put(0x238, uint32_t{0xffff'ffff});
  const auto entry = load(*enough, greedy, std::string(65535, 'a'));
  REQUIRE(entry);
  const auto command_line = value_at<uint32_t>(*enough, entry->boot_data + 0x228);
  CHECK(text_at(*enough, command_line + 65534, 2) == std::string("a\0", 2));
  REQUIRE_FAILS(Errc::invalid_argument, "takes at most 65535",
                load(*enough, greedy, std::string(65536, 'a')));
}

}  // namespace
}  // namespace vhdkit::hypervisor
