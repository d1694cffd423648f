#include "libvhd/dynamic_layer.h"

#include <doctest/doctest.h>

#include "async/forwarding_file.h"
#include "libvhd/vhd_layer.h"
#include "tests/support/await.h"
#include "tests/support/extents.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

using disk::ExtentList;
using tests::await;
using tests::text_of;
using tests::vhd_differencing;
using tests::vhd_dynamic;
using tests::VhdImage;

// Counts what is read: to be given to a layer, which owns it.
class CountingFile final : public async::ForwardingFile {
 public:
  CountingFile(std::unique_ptr<File> file, uint64_t& read_count)
      : ForwardingFile(*file), owned_(std::move(file)), read_count_(read_count) {}
  Async<void> readv(uint64_t file_offset, Buffers buffers) override {
    ++read_count_;
    return file_.readv(file_offset, buffers);
  }

 private:
  std::unique_ptr<File> owned_;
  uint64_t& read_count_;
};

std::unique_ptr<disk::Layer> opened(std::unique_ptr<File> file) {
  auto layer = await(open_layer(std::move(file)));
  REQUIRE_OK(layer);
  return std::move(*layer);
}

std::string resolved(disk::Layer& layer, uint64_t disk_offset, uint64_t length) {
  ExtentList extents;
  const uint64_t end = disk_offset + length;
  while (disk_offset < end) {
    REQUIRE_OK(await(layer.resolve(disk_offset, end - disk_offset, extents)));
    const disk::Extent& last = extents[extents.size() - 1];
    REQUIRE(last.disk_offset + last.length > disk_offset);
    disk_offset = last.disk_offset + last.length;
  }
  return text_of(extents);
}

TEST_CASE("a dynamic disk's blocks are where the BAT says, the others zero") {
  VhdImage image(vhd_dynamic, 8 * MiB);
  image.place(1, 0x7f).place(3, 0x2000);
  const auto layer = opened(image.file());
  CHECK(layer->geometry().size_bytes == 8 * MiB);
  CHECK(layer->geometry().logical_sector_bytes == 512);
  CHECK(layer->block_size_bytes() == 2 * MiB);
  CHECK(layer->parent() == nullptr);
  CHECK(resolved(*layer, 0, 8 * MiB) ==
        "zero 0+0x200000, data 0x200000+0x200000@0x10000, zero 0x400000+0x200000, "
        "data 0x600000+0x200000@0x400200");
  CHECK(resolved(*layer, 0x3ffe00, 0x400) == "data 0x3ffe00+0x200@0x20fe00, zero 0x400000+0x200");
  CHECK(resolved(*layer, 0x1fffff, 2) == "zero 0x1fffff+0x1, data 0x200000+0x1@0x10000");
  CHECK(resolved(*layer, 0x7fffff, 1) == "data 0x7fffff+0x1@0x6001ff");
}

TEST_CASE("the bitmap is honoured sector by sector: zero without a parent, else the parent's") {
  for (const auto& [type, name] : {std::pair{vhd_dynamic, "zero"}, {vhd_differencing, "parent"}}) {
    CAPTURE(name);
    VhdImage image(type, 2 * MiB);
    // Bit 7 of a byte is its first sector: sectors 0, 9 and 10, then 24 and on.
    image.place(0, 8, {0x80, 0x60, 0x00});
    const auto layer = opened(image.file());
    const std::string clear = name;
    CHECK(resolved(*layer, 0, 2 * MiB) == "data 0+0x200@0x1200, " + clear +
                                              " 0x200+0x1000, data 0x1200+0x400@0x2400, " + clear +
                                              " 0x1600+0x1a00, data 0x3000+0x1fd000@0x4200");
    CHECK(resolved(*layer, 0x1ff, 2) == "data 0x1ff+0x1@0x13ff, " + clear + " 0x200+0x1");
    CHECK(resolved(*layer, 0x15ff, 1) == "data 0x15ff+0x1@0x27ff");
    CHECK((layer->parent() != nullptr) == (type == vhd_differencing));
  }
}

TEST_CASE("an unallocated block of a differencing disk is the parent's") {
  VhdImage image(vhd_differencing, 8 * MiB);
  image.place(2, 8);
  const auto layer = opened(image.file());
  CHECK(resolved(*layer, 0, 8 * MiB) ==
        "parent 0+0x400000, data 0x400000+0x200000@0x1200, parent 0x600000+0x200000");
  CHECK(layer->identity() == Guid::literal("10111213-1415-1617-1819-1a1b1c1d1e1f"));
  CHECK(layer->time_stamp() == 0x260cf355);
}

TEST_CASE("blocks of every size have their bitmap before them") {
  for (uint32_t block_bytes = 512 * KiB; block_bytes <= 256 * MiB; block_bytes *= 2) {
    CAPTURE(block_bytes);
    VhdImage image(vhd_dynamic, 3 * uint64_t{block_bytes}, block_bytes);
    const std::vector<uint8_t> bits(image.bitmap_bytes() > 512 ? 513 : 1, 0);
    image.place(1, 16, bits);
    const auto layer = opened(image.file());
    const uint64_t data_offset = 16 * 512 + std::max<uint64_t>(512, block_bytes / 512 / 8);
    const uint64_t clear = bits.size() * 8 * 512;
    ExtentList expected;
    expected.append(
        {.disk_offset = 0, .length = block_bytes + clear, .kind = disk::ExtentKind::zero});
    expected.append({.disk_offset = block_bytes + clear,
                     .length = block_bytes - clear,
                     .kind = disk::ExtentKind::data,
                     .file_offset = data_offset + clear});
    expected.append({.disk_offset = 2 * uint64_t{block_bytes},
                     .length = block_bytes,
                     .kind = disk::ExtentKind::zero});
    CHECK(resolved(*layer, 0, 3 * uint64_t{block_bytes}) == text_of(expected));
  }
}

TEST_CASE("the last block may be cut off after the disk's last sector, as old QEMU did") {
  VhdImage image(vhd_dynamic, 2 * MiB + 1024);
  image.place(1, 8);
  image.content_end = 8 * 512 + 512 + 1024;
  const auto layer = opened(image.file());
  CHECK(resolved(*layer, 2 * MiB, 1024) == "data 0x200000+0x400@0x1200");
  REQUIRE_OK(await(layer->audit()));
  --image.content_end;
  REQUIRE_FAILS(Errc::corrupt, "BAT entry 1 at offset 0x604", await(opened(image.file())->audit()));
}

TEST_CASE("header and BAT may lie anywhere, at odd offsets too") {
  VhdImage image(vhd_dynamic, 4 * MiB);
  image.header_offset = 0x1001;
  image.table_offset = 0x701;
  image.footer.put(tests::vhd_footer::data_offset, 8, 0x1001);
  image.header.put(tests::vhd_header::table_offset, 8, 0x701);
  image.place(1, 0x10);
  CHECK(resolved(*opened(image.file()), 0, 4 * MiB) ==
        "zero 0+0x200000, data 0x200000+0x200000@0x2200");
}

TEST_CASE("bug class 15: a BAT shorter than the disk is an error where it is missed") {
  VhdImage image(vhd_dynamic, 6 * MiB + 512);
  image.header.put(tests::vhd_header::max_entries, 4, 3);
  const auto layer = opened(image.file());
  CHECK(resolved(*layer, 0, 6 * MiB) == "zero 0+0x600000");
  ExtentList extents;
  REQUIRE_FAILS(Errc::corrupt,
                "a.vhd: BAT entry 3 at offset 0x60c is missing: the BAT has 3 entries, the file "
                "room for 3",
                await(layer->resolve(0, 6 * MiB + 512, extents)));
  REQUIRE_FAILS(Errc::corrupt, "BAT entry 3", await(layer->audit()));
}

TEST_CASE("bug class 14: a BAT longer than the disk adds nothing to it") {
  VhdImage image(vhd_dynamic, 4 * MiB);
  image.header.put(tests::vhd_header::max_entries, 4, 100);
  image.table.resize(100, 0);  // none of them would be right
  const auto layer = opened(image.file());
  CHECK(layer->geometry().size_bytes == 4 * MiB);
  CHECK(resolved(*layer, 0, 4 * MiB) == "zero 0+0x400000");
  REQUIRE_OK(await(layer->audit()));
}

TEST_CASE("a BAT of several pieces is walked across their bounds") {
  // 40,000 blocks of 512 KiB; pieces have 16,384 entries.
  VhdImage image(vhd_dynamic, 40000 * 512 * KiB, 512 * KiB);
  image.content_end = MiB;
  for (const uint32_t index : {16383u, 16384u, 32768u, 39999u}) {
    image.place(index, uint32_t(image.content_end / 512));
  }
  const auto layer = opened(image.file());
  CHECK(resolved(*layer, 0, 40000 * 512 * KiB) ==
        "zero 0+0x1fff80000, data 0x1fff80000+0x80000@0x100200, "
        "data 0x200000000+0x80000@0x180400, zero 0x200080000+0x1fff80000, "
        "data 0x400000000+0x80000@0x200600, zero 0x400080000+0xe1f00000, "
        "data 0x4e1f80000+0x80000@0x280800");
  REQUIRE_OK(await(layer->audit()));
}

TEST_CASE("a long answer stops early and is gone on with") {
  VhdImage image(vhd_dynamic, 4 * MiB);
  image.place(0, 8, std::vector<uint8_t>(512, 0xaa))
      .place(1, 0x2000, std::vector<uint8_t>(512, 0xaa));
  const auto layer = opened(image.file());
  ExtentList extents;
  REQUIRE_OK(await(layer->resolve(0, 4 * MiB, extents)));
  CHECK(extents.size() == 4096);
  CHECK(extents[4095].disk_offset == 2 * MiB - 512);
  const std::string all = resolved(*layer, 0, 4 * MiB);
  CHECK(all.starts_with("data 0+0x200@0x1200, zero 0x200+0x200, data 0x400+0x200@0x1600, "));
  CHECK(all.ends_with("data 0x3ffc00+0x200@0x5ffe00, zero 0x3ffe00+0x200"));
}

TEST_CASE("every entry that points wrongly is an error that names it") {
  struct {
    uint32_t entry;
    std::string message;
  } const cases[] = {
      {0, "a.vhd: BAT entry 1 at offset 0x604: sector 0x0 puts the block upon the copy"},
      {3, "a.vhd: BAT entry 1 at offset 0x604: sector 0x3 puts the block upon the BAT"},
      {0x2000,
       "a.vhd: BAT entry 1 at offset 0x604: sector 0x2000 puts the block's end (0x600200) "
       "past the end of the content (0x201200)"},
      {0xfffffffe, "a.vhd: BAT entry 1 at offset 0x604: sector 0xfffffffe"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.entry);
    VhdImage image(vhd_dynamic, 4 * MiB);
    image.place(0, 8).table = {8, test.entry};
    const auto layer = opened(image.file());
    CHECK(resolved(*layer, 0, 2 * MiB) == "data 0+0x200000@0x1200");
    ExtentList extents;
    REQUIRE_FAILS(Errc::corrupt, test.message, await(layer->resolve(4 * MiB - 1, 1, extents)));
    REQUIRE_FAILS(Errc::corrupt, test.message, await(layer->resolve(0, 4 * MiB, extents)));
    REQUIRE_FAILS(Errc::corrupt, test.message, await(layer->audit()));
  }
}

TEST_CASE("an audit finds blocks that lie upon each other") {
  VhdImage image(vhd_dynamic, 8 * MiB);
  image.place(0, 8).place(3, 8 + 4097).table = {8 + 4097, 0xffffffff, 0xffffffff, 8};
  REQUIRE_OK(await(opened(image.file())->audit()));
  image.table[0] = 8 + 4096;
  REQUIRE_FAILS(Errc::corrupt,
                "a.vhd: BAT entry 0 at offset 0x600: sector 0x1008 puts the block upon block 3 (to "
                "0x201200)",
                await(opened(image.file())->audit()));
  image.table = {8, 8, 8, 8};
  REQUIRE_FAILS(Errc::corrupt,
                "BAT entry 1 at offset 0x604: sector 0x8 puts the block upon block 0",
                await(opened(image.file())->audit()));
}

TEST_CASE("metadata is read once: one request for each bitmap, none for what is not allocated") {
  // 64 GiB with 512 blocks scattered over it
  VhdImage image(vhd_dynamic, 64 * GiB);
  image.content_end = MiB;
  for (uint32_t index = 0; index < 32768; index += 64) {
    image.place(index, uint32_t(image.content_end / 512));
  }
  uint64_t read_count = 0;
  const auto layer = opened(std::make_unique<CountingFile>(image.file(), read_count));
  CHECK(read_count == 3);  // the two ends and the header
  ExtentList extents;
  REQUIRE_OK(await(layer->resolve(0, 64 * GiB, extents)));
  CHECK(extents.size() == 1024);
  CHECK(read_count == 3 + 2 + 512);  // the BAT has two pieces
  // Asked again, the last blocks need no more.
  REQUIRE_OK(await(layer->resolve(64 * GiB - 128 * MiB, 128 * MiB, extents)));
  CHECK(read_count == 3 + 2 + 512);
}

TEST_CASE("a creator whose bitmaps have another order of bits is refused") {
  VhdImage image(vhd_dynamic, 4 * MiB);
  image.footer.put(tests::vhd_footer::creator, {"tap\0", 4});
  image.footer.put(tests::vhd_footer::creator_version, 4, 1);
  REQUIRE_FAILS(Errc::unsupported, "a.vhd: creator \"tap\\x00\" 0.1",
                await(open_layer(image.file())));
  image.footer.put(tests::vhd_footer::creator_version, 4, 0x10003);
  REQUIRE_OK(await(open_layer(image.file())));
}

}  // namespace
}  // namespace vhdkit::libvhd
