#include "libvhd/create.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "tests/support/extents.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

namespace footer_at = tests::vhd_footer;
namespace header_at = tests::vhd_header;
using tests::await;
using tests::VhdBytes;
using tests::VhdImage;

// Those of tests::vhd_footer_bytes.
const Guid unique_id = Guid::literal("10111213-1415-1617-1819-1a1b1c1d1e1f");
constexpr uint32_t time_stamp = 0x260cf355;

CreateOptions options(DiskType type, uint64_t size_bytes) {
  return {.type = type, .size_bytes = size_bytes, .unique_id = unique_id, .time_stamp = time_stamp};
}

std::vector<std::byte> content(const async::MemoryFile& file, uint64_t file_offset,
                               uint64_t length) {
  std::vector<std::byte> bytes(length);
  file.fetch(file_offset, bytes);
  return bytes;
}

void make(async::MemoryFile& file, const CreateOptions& with,
          const std::vector<uint64_t>& blocks = {}) {
  auto writer = create(file, with);
  REQUIRE_OK(writer);
  for (const uint64_t index : blocks)
    REQUIRE_OK((*writer)->place(index * with.block_size_bytes, 512));
  REQUIRE_OK(await((*writer)->finish()));
  CHECK((*writer)->file_size_bytes() == file.size_bytes());
}

TEST_CASE("a new dynamic disk is, byte for byte, what the specification lays out") {
  async::MemoryFile file("a.vhd");
  make(file, options(DiskType::dynamic, 5 * MiB + 512), {2, 0});

  VhdImage expected(tests::vhd_dynamic, 5 * MiB + 512);  // 3 blocks
  // 10241 sectors, by the specification: 17 a track, 4 heads, 10241 / 17 / 4 cylinders
  expected.footer.put(footer_at::cylinders, 2, 150).put(footer_at::heads, 1, 4);
  expected.footer.put(footer_at::sectors, 1, 17);
  expected.table.resize(128, 0xffffffff);  // padded to a sector
  // Data on 4 KiB, the bitmap before it, and the footer where the next bitmap would be.
  expected.place(2, 4096 / 512 - 1);
  expected.place(0, (4096 + 2 * MiB + 4096) / 512 - 1);
  expected.content_end = 4096 + 2 * (2 * MiB + 4096) - 512;
  const auto expected_file = expected.file();
  REQUIRE(file.size_bytes() == expected_file->size_bytes());
  CHECK(content(file, 0, file.size_bytes()) ==
        content(*expected_file, 0, expected_file->size_bytes()));
}

TEST_CASE("a new dynamic disk without data ends with its footer") {
  async::MemoryFile file("a.vhd");
  make(file, options(DiskType::dynamic, 64 * GiB));
  // 32768 entries after 1536 bytes; the next multiple of 4 KiB with room for a bitmap before it
  CHECK(file.size_bytes() == 1536 + 32768 * 4 + 2048 + 512);
  CHECK(content(file, 0, 512) == content(file, file.size_bytes() - 512, 512));
  CHECK(content(file, 1536, 32768 * 4) == std::vector<std::byte>(32768 * 4, std::byte{0xff}));
}

TEST_CASE("bug classes 14 and 15: the BAT has exactly as many entries as the disk has blocks") {
  struct {
    uint64_t size_bytes;
    uint32_t block_bytes;
    uint32_t entry_count;
  } const cases[] = {
      {512, 2 * MiB, 1},
      {2 * MiB - 512, 2 * MiB, 1},
      {2 * MiB, 2 * MiB, 1},
      {2 * MiB + 512, 2 * MiB, 2},
      {256 * MiB - 512, 2 * MiB, 128},
      {256 * MiB, 2 * MiB, 128},
      {256 * MiB + 512, 2 * MiB, 129},
      {10 * GiB, 512 * KiB, 20480},
      {10 * GiB + 512, 512 * KiB, 20481},
      {10 * GiB - 512, 256 * MiB, 40},
      {2040 * GiB, 2 * MiB, 1044480},
  };
  for (const auto& test : cases) {
    CAPTURE(test.size_bytes);
    CAPTURE(test.block_bytes);
    CreateOptions with = options(DiskType::dynamic, test.size_bytes);
    with.block_size_bytes = test.block_bytes;
    async::MemoryFile file("a.vhd");
    make(file, with);
    const auto header = content(file, 512, 1024);
    VhdBytes expected = tests::vhd_header_bytes(test.entry_count, test.block_bytes);
    CHECK(header == expected.bytes);
  }
}

TEST_CASE("a new fixed disk is its bytes and a footer, also above 2040 GiB") {
  for (const uint64_t size_bytes : {uint64_t{512}, 10 * MiB, 2040 * GiB + 512, 32 * TiB}) {
    CAPTURE(size_bytes);
    async::MemoryFile file("a.vhd");
    make(file, options(DiskType::fixed, size_bytes));
    CHECK(file.size_bytes() == size_bytes + 512);
    VhdBytes expected = tests::vhd_footer_bytes(tests::vhd_fixed, size_bytes);
    if (size_bytes == 512) expected.put(footer_at::heads, 1, 4).put(footer_at::sectors, 1, 17);
    if (size_bytes == 10 * MiB)
      expected.put(footer_at::cylinders, 2, 301)
          .put(footer_at::heads, 1, 4)
          .put(footer_at::sectors, 1, 17);
    if (size_bytes > GiB)
      expected.put(footer_at::cylinders, 2, 65535)
          .put(footer_at::heads, 1, 16)
          .put(footer_at::sectors, 1, 255);
    CHECK(content(file, size_bytes, 512) == expected.seal(footer_at::checksum).bytes);
  }
}

CreateOptions child_options() {
  CreateOptions with = options(DiskType::differencing, 4 * MiB);
  with.parent = ParentLink{.unique_id = Guid::literal("a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf"),
                           .time_stamp = 99,
                           .relative_path = ".\\p.vhd",
                           .absolute_path = "C:\\vm\\p.vhd",
                           .name = "p.vhd"};
  return with;
}

std::string utf16(std::string_view ascii) {
  std::string text;
  for (const char c : ascii) text += {c, '\0'};
  return text;
}

TEST_CASE("a new child names its parent twice and by its identifier") {
  async::MemoryFile file("a.vhd");
  make(file, child_options(), {1});

  VhdImage expected(tests::vhd_differencing, 4 * MiB);
  // 8192 sectors / 17 / 4
  expected.footer.put(footer_at::cylinders, 2, 120).put(footer_at::heads, 1, 4);
  expected.footer.put(footer_at::sectors, 1, 17);
  for (size_t i = 0; i < 16; ++i) expected.header.put(header_at::parent_id + i, 1, 0xa0 + i);
  expected.header.put(header_at::parent_time_stamp, 4, 99);
  expected.header.put(header_at::parent_name, {"\0p\0.\0v\0h\0d", 10});
  expected.locate(0, "W2ru", utf16(".\\p.vhd")).locate(1, "W2ku", utf16("C:\\vm\\p.vhd"));
  expected.table.resize(128, 0xffffffff);
  // The locators' data lies at 0x800 and 0xa00; data on the next 4 KiB.
  expected.place(1, 4096 / 512 - 1);
  expected.content_end = 4096 + 2 * MiB + 4096 - 512;
  const auto expected_file = expected.file();
  REQUIRE(file.size_bytes() == expected_file->size_bytes());
  CHECK(content(file, 0, file.size_bytes()) ==
        content(*expected_file, 0, expected_file->size_bytes()));
}

TEST_CASE("a child whose parent's absolute path is not known stores the other one alone") {
  CreateOptions with = child_options();
  with.parent->absolute_path.clear();
  auto file = std::make_unique<async::MemoryFile>("a.vhd");
  make(*file, with);
  const auto layer = await(open_layer(std::move(file)));
  REQUIRE_OK(layer);
  REQUIRE((*layer)->parent()->paths.size() == 2);
  CHECK((*layer)->parent()->paths[0].path == ".\\p.vhd");
  CHECK((*layer)->parent()->paths[1].locator == "parent-name");
}

TEST_CASE("what was placed is found again, the rest is zero") {
  for (const uint32_t block_bytes : {uint32_t(512 * KiB), uint32_t(2 * MiB), uint32_t(64 * MiB)}) {
    CAPTURE(block_bytes);
    CreateOptions with = options(DiskType::dynamic, 5 * uint64_t{block_bytes} - 512);
    with.block_size_bytes = block_bytes;
    auto file = std::make_unique<async::MemoryFile>("a.vhd");
    auto writer = create(*file, with);
    REQUIRE_OK(writer);
    disk::ExtentList expected;
    expected.append({0, block_bytes, disk::ExtentKind::zero});
    for (const uint64_t index : {1, 3, 4}) {
      const uint64_t start = index * block_bytes;
      const auto place = (*writer)->place(start + 512, 1024);
      REQUIRE_OK(place);
      CHECK(*(*writer)->place(start, 512) == *place - 512);
      CHECK((*place - 512) % 4096 == 0);
      if (index == 3)
        expected.append({2 * uint64_t{block_bytes}, block_bytes, disk::ExtentKind::zero});
      expected.append({start, index == 4 ? block_bytes - 512 : block_bytes, disk::ExtentKind::data,
                       0, *place - 512});
    }
    REQUIRE_OK(await((*writer)->finish()));
    const auto layer = await(open_layer(std::move(file)));
    REQUIRE_OK(layer);
    REQUIRE_OK(await((*layer)->audit()));
    disk::ExtentList extents;
    REQUIRE_OK(await((*layer)->resolve(0, with.size_bytes, extents)));
    CHECK(tests::text_of(extents) == tests::text_of(expected));
  }
}

TEST_CASE("options that contradict each other or the format are refused by name") {
  using Type = DiskType;
  CreateOptions orphan = options(Type::differencing, MiB);
  CreateOptions adopted = child_options();
  adopted.type = Type::dynamic;
  CreateOptions pathless = child_options();
  pathless.parent->relative_path.clear();
  pathless.parent->absolute_path.clear();
  CreateOptions winding = child_options();
  winding.parent->relative_path.assign(32769, 'a');
  CreateOptions small_blocks = options(Type::dynamic, MiB);
  small_blocks.block_size_bytes = 256 * KiB;
  CreateOptions odd_blocks = options(Type::dynamic, MiB);
  odd_blocks.block_size_bytes = 3 * MiB;
  struct {
    CreateOptions with;
    std::string message;
  } const cases[] = {
      {options(Type::dynamic, 0), "size 0 of a dynamic VHD: it must be a multiple of 512 from 512"},
      {options(Type::dynamic, 513), "size 513 of a dynamic VHD"},
      {options(Type::dynamic, 2040 * GiB + 512), "from 512 to 2190433320960"},
      {options(Type::fixed, 64 * TiB + 512), "from 512 to 70368744177664"},
      {options(Type::none, MiB), "disk type 0: it must be fixed, dynamic or differencing"},
      {options(Type(7), MiB), "disk type 7"},
      {small_blocks, "block size 262144: it must be a power of two from 524288"},
      {odd_blocks, "block size 3145728"},
      {orphan, "a differencing VHD needs a parent"},
      {adopted, "only a differencing VHD has a parent"},
      {pathless, "a differencing VHD needs its parent's path"},
      {winding, "the parent's path has 32769 bytes: a VHD takes at most 32768"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.message);
    async::MemoryFile file("a.vhd");
    REQUIRE_FAILS(Errc::invalid_argument, test.message, create(file, test.with));
    CHECK(file.write_count() == 0);
  }
}

TEST_CASE("a block beyond what a BAT entry can say is refused") {
  // Blocks of 512 KiB with their padding reach 2 TiB before 2040 GiB of content do.
  CreateOptions with = options(DiskType::dynamic, 2040 * GiB);
  with.block_size_bytes = 512 * KiB;
  async::MemoryFile file("a.vhd");
  auto writer = create(file, with);
  REQUIRE_OK(writer);
  uint64_t index = 0;
  Result<uint64_t> place = 0;
  for (; place && index < 2040 * GiB / (512 * KiB); ++index)
    place = (*writer)->place(index * 512 * KiB, 512);
  REQUIRE_FAILS(Errc::no_space, "a BAT entry has 32 bits", place);
  // The last place that was given ends at most one stride after 2^32 sectors.
  const auto last = (*writer)->place((index - 2) * 512 * KiB, 512);
  REQUIRE_OK(last);
  CHECK(*last <= (uint64_t{1} << 32) * 512);
  CHECK(*last + 512 * KiB + 4096 > ((uint64_t{1} << 32) - 1) * 512);
}

TEST_CASE("bug class 18: a full file system at any write is an error") {
  CreateOptions with = child_options();
  uint64_t write_count = 0;
  for (uint64_t n = 0;; ++n) {
    async::MemoryFile file("a.vhd");
    auto writer = create(file, with);
    REQUIRE_OK(writer);
    REQUIRE_OK((*writer)->place(0, 512));
    file.fail_writes_from(n);
    const auto result = await((*writer)->finish());
    write_count = file.write_count();
    if (result) break;
    CHECK(result.error().code == Errc::no_space);
    CHECK(write_count == n + 1);
  }
  CHECK(write_count == 7);  // copy, header, BAT, two locators, bitmap, footer
}

}  // namespace
}  // namespace vhdkit::libvhd
