#include "hypervisor/boot/packed_kernel.h"

#include <doctest/doctest.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <set>

#include "hypervisor/boot/linux_image.h"
#include "hypervisor/boot/test_kernel.h"
#include "tests/support/await.h"

namespace vhdkit::hypervisor {
namespace {

using tests::make_ram;
using tests::mib;
using tests::TestFile;
using tests::text_at;
using tests::value_at;

constexpr uint64_t link_address = 16 * mib;

// Where Linux's linker has the first segment in the file.
constexpr size_t usual_offset = 2 * mib;

// An ELF file with one segment of 0x100 bytes at 16 MiB, that takes 1 MiB there, begins at its
// 0x40, and has an address at its 0x80. Behind it, a table that names that address.
TestFile unpacked_kernel(size_t segment = usual_offset) {
  TestFile file;
  file.put_text(0,
                "\x7f"
                "ELF");
  file.put(4, uint8_t{2}).put(5, uint8_t{1}).put(6, uint8_t{1});
  file.put(16, uint16_t{2}).put(18, uint16_t{62});
  file.put(24, uint64_t{link_address + 0x40});
  file.put(32, uint64_t{64});
  file.put(54, uint16_t{56}).put(56, uint16_t{1});
  file.put(64, uint32_t{1}).put(64 + 8, uint64_t{segment});
  file.put(64 + 24, link_address).put(64 + 32, uint64_t{0x100}).put(64 + 40, mib);
  file.put_text(segment, "unpacked");
  file.put(segment + 0x80, uint64_t{0xffff'ffff'8100'0040});
  file.put(segment + 0xff, uint8_t{0x77});
  const size_t table = segment + 0x100;
  file.put(table, uint32_t{0}).put(table + 4, uint32_t{0x8100'0080});
  file.put(table + 8, uint32_t{0}).put(table + 12, uint32_t{0});
  return file;
}

// The same with a second segment at 17 MiB, whose place in the file is not as far behind the first
// one's. Behind what it has in the file it takes zeroes.
TestFile kernel_of_two_segments(size_t second = usual_offset + mib + 0x2000) {
  TestFile file = unpacked_kernel();
  file.bytes.resize(usual_offset + 0x100);
  file.put(56, uint16_t{2});
  file.put(120, uint32_t{1}).put(120 + 8, uint64_t{second});
  file.put(120 + 24, link_address + mib).put(120 + 32, uint64_t{0x100}).put(120 + 40, mib);
  file.put_text(second, "moved");
  file.put(second + 0xff, uint8_t{0x78});
  file.put(second + 0x100, uint32_t{0}).put(second + 0x104, uint32_t{0x8100'0080});
  file.put(second + 0x108, uint32_t{0}).put(second + 0x10c, uint32_t{0});
  return file;
}

// The payload of a bzImage: packed, with the unpacked length behind.
TestFile payload_of(const TestFile& unpacked) {
  TestFile payload;
  payload.bytes.resize(ZSTD_compressBound(unpacked.bytes.size()));
  const size_t used = ZSTD_compress(payload.bytes.data(), payload.bytes.size(),
                                    unpacked.bytes.data(), unpacked.bytes.size(), 3);
  REQUIRE_FALSE(ZSTD_isError(used));
  payload.bytes.resize(used);
  payload.put(payload.bytes.size(), uint32_t(unpacked.bytes.size()));
  return payload;
}

// As "gzip -n -9": the length that stands last is its own.
TestFile gzip_payload_of(const TestFile& unpacked) {
  constexpr int with_gzip_header = 15 + 16;
  TestFile payload;
  payload.bytes.resize(unpacked.bytes.size());
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, with_gzip_header, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(unpacked.bytes.data()));
  stream.avail_in = uInt(unpacked.bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(payload.bytes.data());
  stream.avail_out = uInt(payload.bytes.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  payload.bytes.resize(stream.total_out);
  deflateEnd(&stream);
  return payload;
}

TestFile bz_image_with(const TestFile& payload) {
  TestFile kernel = tests::bz_image();
  kernel.put(0x248, uint32_t{0x100}).put(0x24c, uint32_t(payload.bytes.size()));
  REQUIRE(payload.bytes.size() < 4096);
  std::ranges::copy(payload.bytes, kernel.bytes.begin() + 0x400 + 0x100);
  return kernel;
}

Result<Entry> load(GuestRam& ram, const TestFile& kernel, std::string_view command_line = "quiet") {
  REQUIRE_OK(ram.clear());
  const auto map = memory_map(ram);
  const std::vector<std::byte> initrd(10000, std::byte{0x33});
  return load_linux_image(
      ram, kernel.bytes,
      {.initrd = initrd, .command_line = command_line, .rsdp_address = 0xe0000, .memory_map = map});
}

bool is_zero(GuestRam& ram, uint64_t page) {
  return std::ranges::all_of(ram.range(page, 4096),
                             [](std::byte value) { return value == std::byte{0}; });
}

// Where a kernel that unpacks itself begins.
constexpr uint64_t own_entry = link_address + 0x200;

TEST_CASE("the kernel is unpacked, and its relocations behind it are read") {
  const TestFile kernel = unpacked_kernel();
  std::vector<std::byte> room(3 * mib);
  TestFile payload;
  SUBCASE("with the length behind") { payload = payload_of(kernel); }
  SUBCASE("by gzip, whose length is its own") { payload = gzip_payload_of(kernel); }
  const auto unpacked = unpack_kernel(payload.bytes, room);
  REQUIRE(unpacked);
  CHECK(unpacked->file.data() == room.data());
  CHECK(std::ranges::equal(unpacked->file, kernel.bytes));
  CHECK(unpacked->elf.entry == link_address + 0x40);
  CHECK(unpacked->relocations.added_64.size() == 1);
}

TEST_CASE("what is something else than it says is left to the kernel") {
  const TestFile kernel = unpacked_kernel(0x200);
  const auto length = uint32_t(kernel.bytes.size());
  std::vector<std::byte> room(4096);
  const auto with_length = [&](uint32_t said) {
    TestFile payload = payload_of(kernel);
    payload.put(payload.bytes.size() - 4, said);
    return unpack_kernel(payload.bytes, room);
  };
  REQUIRE(with_length(length));
  CHECK_FALSE(with_length(length - 1));
  CHECK_FALSE(with_length(length + 1));
  CHECK_FALSE(with_length(4097));
  CHECK_FALSE(unpack_kernel({}, room));
  TestFile text;
  text.bytes.resize(1000);
  CHECK_FALSE(unpack_kernel(payload_of(text).bytes, room));
  TestFile cut = payload_of(kernel);
  cut.bytes.erase(cut.bytes.end() - 40, cut.bytes.end() - 4);
  CHECK_FALSE(unpack_kernel(cut.bytes, room));
  TestFile no_table = kernel;
  no_table.put(0x310, uint32_t{0});
  CHECK_FALSE(unpack_kernel(payload_of(no_table).bytes, room));
}

TEST_CASE("an unpacked kernel lies at random places, and knows its own") {
  const auto ram = make_ram(128 * mib);
  const TestFile kernel = bz_image_with(payload_of(unpacked_kernel()));
  std::set<uint64_t> places;
  std::set<uint64_t> addresses;
  for (int i = 0; i < 20; ++i) {
    const auto entry = load(*ram, kernel);
    REQUIRE(entry);
    CHECK(entry->mode == Entry::Mode::long_mode);
    const uint64_t place = entry->instruction - 0x40;
    // Its 1 MiB is in RAM and below the initrd; where it is aligned as its header says.
    CHECK(place % (2 * mib) == 0);
    CHECK(place >= link_address);
    CHECK(place + mib <= value_at<uint32_t>(*ram, entry->boot_data + 0x218));
    CHECK(text_at(*ram, place, 8) == "unpacked");
    CHECK(value_at<uint8_t>(*ram, place + 0xff) == 0x77);
    const auto address = value_at<uint64_t>(*ram, place + 0x80);
    CHECK((address - 0xffff'ffff'8100'0040) % (2 * mib) == 0);
    CHECK(address >= 0xffff'ffff'8100'0040);
    CHECK(address <= 0xffff'ffff'c000'0000 - 8 * mib + 0x40);
    // loadflags: LOADED_HIGH and KASLR_FLAG
    CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x211) == 3);
    places.insert(place);
    addresses.insert(address);
  }
  // Of 50 and of 500: that all 20 are the same happens once in 50^19.
  CHECK(places.size() > 1);
  CHECK(addresses.size() > 1);
}

TEST_CASE("an unpacked kernel stays where it was linked, where it cannot move or is told not to") {
  const auto ram = make_ram(128 * mib);
  const auto stays = [&](const TestFile& kernel, std::string_view command_line) {
    const auto entry = load(*ram, kernel, command_line);
    REQUIRE(entry);
    CHECK(entry->instruction == link_address + 0x40);
    CHECK(text_at(*ram, link_address, 8) == "unpacked");
    CHECK(value_at<uint64_t>(*ram, link_address + 0x80) == 0xffff'ffff'8100'0040);
    CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x211) == 1);
  };
  TestFile without_table = unpacked_kernel();
  without_table.bytes.resize(usual_offset + 0x100);
  stays(bz_image_with(payload_of(without_table)), "quiet");
  stays(bz_image_with(payload_of(unpacked_kernel())), "quiet nokaslr ro");
  stays(bz_image_with(payload_of(unpacked_kernel())), "nokaslr");
  TestFile fixed = bz_image_with(payload_of(unpacked_kernel()));
  stays(fixed.put(0x234, uint8_t{0}), "quiet");
}

// Where 20 loads put it, and which address each told it.
struct Whereabouts {
  std::set<uint64_t> places;
  std::set<uint64_t> addresses;
};
Whereabouts whereabouts_with(std::string_view command_line) {
  const auto ram = make_ram(128 * mib);
  const TestFile kernel = bz_image_with(payload_of(unpacked_kernel()));
  Whereabouts found;
  for (int i = 0; i < 20; ++i) {
    const auto entry = load(*ram, kernel, command_line);
    REQUIRE(entry);
    const uint64_t place = entry->instruction - 0x40;
    CHECK(text_at(*ram, place, 8) == "unpacked");
    CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x211) == 3);
    found.places.insert(place);
    found.addresses.insert(value_at<uint64_t>(*ram, place + 0x80));
  }
  return found;
}

TEST_CASE("memory that a kernel is to leave alone keeps it where it was linked, and hidden") {
  for (const char* line : {"mem=64M", "quiet memmap=16M$32M ro", "ro\tmemmap=1G!4G",
                           "hugepagesz=1G hugepages=2", "\"memmap=16M$32M\""}) {
    CAPTURE(line);
    const Whereabouts found = whereabouts_with(line);
    CHECK(found.places == std::set{link_address});
    CHECK(found.addresses.size() > 1);
  }
  for (const char* line : {"xmem=64M", "a=mem=64M", "mem", "memory=64M", "hugepagesz=2M"}) {
    CAPTURE(line);
    CHECK(whereabouts_with(line).places.size() > 1);
  }
}

// Of 20 MiB, which needs 21 MiB more than that to unpack itself.
TestFile large_kernel() {
  TestFile kernel = bz_image_with(payload_of(unpacked_kernel().put(64 + 40, uint64_t{20 * mib})));
  kernel.put(0x260, uint32_t{41 << 20});
  return kernel;
}

TEST_CASE("an unpacked kernel lies lower than it prefers where there is no other room for it") {
  const auto place_in = [](uint64_t ram_bytes, TestFile kernel, std::string_view command_line) {
    const auto ram = make_ram(ram_bytes);
    const auto entry = load(*ram, kernel, command_line);
    REQUIRE(entry);
    const uint64_t place = entry->instruction - 0x40;
    CHECK(text_at(*ram, place, 8) == "unpacked");
    CHECK(value_at<uint32_t>(*ram, entry->boot_data + 0x214) == place);
    const auto initrd = value_at<uint32_t>(*ram, entry->boot_data + 0x218);
    CHECK((initrd >= place + 20 * mib || initrd + 10000 <= place));
    return place;
  };
  // 16 and 20 MiB, and an initrd in the last 2.
  CHECK(place_in(38 * mib, large_kernel(), "nokaslr") == link_address);
  CHECK(place_in(36 * mib, large_kernel(), "nokaslr") == 2 * mib);
  CHECK(place_in(24 * mib, large_kernel(), "quiet") == 2 * mib);
  std::set<uint64_t> places;
  for (int i = 0; i < 20; ++i) places.insert(place_in(36 * mib, large_kernel(), "quiet"));
  // From 2 to 14 MiB.
  CHECK(places.size() > 1);
  CHECK(*places.rbegin() <= 14 * mib);
  CHECK(place_in(46 * mib, large_kernel().put(0x230, uint32_t{8 << 20}), "nokaslr") ==
        link_address);
  CHECK(place_in(36 * mib, large_kernel().put(0x230, uint32_t{8 << 20}), "nokaslr") == 8 * mib);
}

TEST_CASE("a guest is too small where an unpacked kernel fits nowhere") {
  const auto small = make_ram(20 * mib);
  REQUIRE_FAILS(Errc::invalid_argument,
                "loaded at 0x200000 and needs RAM up to 22 MiB; the guest has 20 MiB",
                load(*small, large_kernel()));
  const auto without_initrd = make_ram(22 * mib);
  REQUIRE_FAILS(Errc::invalid_argument, "an initrd of 10000 bytes has no room",
                load(*without_initrd, large_kernel().put(0x22c, uint32_t{1 << 20})));
  const auto ram = make_ram(36 * mib);
  for (const uint32_t alignment : {0U, 2U << 20})
    REQUIRE_FAILS(
        Errc::invalid_argument, "loaded at 0x1000000 and needs RAM up to 36 MiB",
        load(*make_ram(34 * mib), large_kernel().put(0x234, uint8_t{0}).put(0x230, alignment)));
  // Who unpacks itself needs the room for that, too.
  TestFile unknown = large_kernel();
  REQUIRE_FAILS(Errc::invalid_argument, "loaded at 0x1000000 and needs RAM up to 57 MiB",
                load(*ram, unknown.put(0x248, uint32_t{0xffff'ff00})));
}

TEST_CASE("segments come to their places, wherever the file has them") {
  const auto ram = make_ram(128 * mib);
  for (const size_t second : {usual_offset + mib, usual_offset + mib + 1, usual_offset + mib + 0x80,
                              usual_offset + mib + 0x2000, usual_offset + 0x180000}) {
    for (const char* line : {"nokaslr", "quiet"}) {
      const auto entry =
          load(*ram, bz_image_with(payload_of(kernel_of_two_segments(second))), line);
      REQUIRE(entry);
      const uint64_t place = entry->instruction - 0x40;
      CHECK(text_at(*ram, place, 8) == "unpacked");
      CHECK(text_at(*ram, place + mib, 5) == "moved");
      CHECK(value_at<uint8_t>(*ram, place + mib + 0xff) == 0x78);
      const auto zeroes = ram->range(place + mib + 0x100, mib - 0x100);
      CHECK(std::ranges::all_of(zeroes, [](std::byte value) { return value == std::byte{0}; }));
    }
  }
}

TEST_CASE("a word of the command line is a whole one") {
  const auto ram = make_ram(128 * mib);
  const TestFile kernel = bz_image_with(payload_of(unpacked_kernel()));
  for (const char* line : {"nokaslrs", "xnokaslr", "a=nokaslr"}) {
    const auto entry = load(*ram, kernel, line);
    REQUIRE(entry);
    CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x211) == 3);
  }
}

TEST_CASE("a kernel that is not as its header says unpacks itself") {
  const auto ram = make_ram(128 * mib);
  const auto unpacks_itself = [&](const TestFile& unpacked) {
    const auto entry = load(*ram, bz_image_with(payload_of(unpacked)));
    REQUIRE(entry);
    CHECK(entry->instruction == own_entry);
    CHECK(text_at(*ram, link_address, 6) == "kernel");
    CHECK(value_at<uint8_t>(*ram, entry->boot_data + 0x211) == 1);
    // Of what was tried nothing is left. 8192 bytes of it lie where the others end.
    for (uint64_t at = mib; at < entry->instruction + 8 * mib; at += 4096) {
      if (at < link_address || at >= link_address + 8192) CHECK(is_zero(*ram, at));
    }
  };
  unpacks_itself(unpacked_kernel(0x200));
  unpacks_itself(unpacked_kernel(usual_offset - 1));
  unpacks_itself(kernel_of_two_segments(usual_offset + mib - 0x1000));
  TestFile elsewhere = unpacked_kernel();
  unpacks_itself(elsewhere.put(64 + 24, uint64_t{18 * mib}));
  TestFile larger = unpacked_kernel();
  unpacks_itself(larger.put(64 + 40, uint64_t{9 * mib}));
  TestFile without_entry = unpacked_kernel();
  unpacks_itself(without_entry.put(24, uint64_t{link_address + 2 * mib}));
  TestFile place_outside = unpacked_kernel();
  unpacks_itself(place_outside.put(usual_offset + 0x104, uint32_t{0x8100'0100}));
  TestFile payload_outside = bz_image_with(payload_of(unpacked_kernel()));
  payload_outside.put(0x248, uint32_t{0xffff'ff00});
  const auto entry = load(*ram, payload_outside);
  REQUIRE(entry);
  CHECK(entry->instruction == own_entry);
}

}  // namespace
}  // namespace vhdkit::hypervisor
