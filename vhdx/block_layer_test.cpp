#include "vhdx/block_layer.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "support/crc32c.h"
#include "tests/support/await.h"
#include "tests/support/vhdx_image.h"
#include "vhdx/vhdx_layer.h"

namespace vhdkit::vhdx {
namespace {

using async::MemoryFile;
using disk::ExtentList;
using tests::await;
using tests::VhdxImage;

constexpr uint64_t first_block = 4 * MiB;  // where the image's structures end

uint64_t entry(unsigned state, uint64_t file_offset) { return file_offset | state; }

std::unique_ptr<disk::Layer> opened(std::unique_ptr<File> file) {
  auto layer = await(open_layer(std::move(file), {}));
  REQUIRE_OK(layer);
  return std::move(*layer);
}
std::unique_ptr<disk::Layer> opened(const VhdxImage& image) { return opened(image.build()); }

// "zero 0x0+0x100000, data 0x100000+0x200 at 0x400000"
std::string text_of(const ExtentList& extents) {
  constexpr const char* names[] = {"data", "zero", "parent", "encoded"};
  std::string text;
  for (const disk::Extent& extent : extents) {
    CHECK(extent.depth == 0);
    if (!text.empty()) text += ", ";
    text += fmt::format("{} {:#x}+{:#x}", names[size_t(extent.kind)], extent.disk_offset,
                        extent.length);
    if (extent.kind == disk::ExtentKind::data) text += fmt::format(" at {:#x}", extent.file_offset);
  }
  return text;
}

std::string resolved(disk::Layer& layer, uint64_t disk_offset, uint64_t length) {
  ExtentList extents;
  const auto done = await(layer.resolve(disk_offset, length, extents));
  return done ? text_of(extents) : done.error().message;
}
std::string resolved(const VhdxImage& image) {
  return resolved(*opened(image), 0, image.metadata.disk_size_bytes);
}

Result<void> audited(const VhdxImage& image) {
  const auto layer = opened(image);
  return await(layer->audit());
}

// Sets bits of the sector bitmap block at file_offset.
void set_bits(MemoryFile& file, uint64_t file_offset, uint64_t first, uint64_t count) {
  for (uint64_t bit = first; bit < first + count; ++bit) {
    std::byte value[1];
    file.fetch(file_offset + bit / 8, value);
    value[0] |= std::byte(1 << bit % 8);
    file.store(file_offset + bit / 8, value);
  }
}

TEST_CASE("bug class 8: each payload state in a disk without parent and in a child") {
  struct Case {
    unsigned state;
    const char* base;  // what the range reads as, or the message
    const char* child;
  };
  // [MS-VHDX] 2.5.1.1. Only a fully present block's file offset may be followed.
  const Case cases[] = {
      {0, "zero 0x0+0x100000", "parent 0x0+0x100000"},
      {1, "zero 0x0+0x100000", "zero 0x0+0x100000"},
      {2, "zero 0x0+0x100000", "zero 0x0+0x100000"},
      {3, "zero 0x0+0x100000", "zero 0x0+0x100000"},
      {4,
       "a.vhdx: payload block 0 (BAT entry 0) at offset 0x300000: 0x400004 state 4 is not a fixed "
       "or dynamic disk's block's",
       "a.vhdx: payload block 0 (BAT entry 0) at offset 0x300000: 0x400004 state 4 is not a "
       "differencing disk's block's"},
      {5, "state 5 is not a fixed or dynamic disk's block's",
       "state 5 is not a differencing disk's block's"},
      {6, "data 0x0+0x100000 at 0x400000", "data 0x0+0x100000 at 0x400000"},
      {7, "state 7 is not a fixed or dynamic disk's block's", "data 0x0+0x100000 at 0x400000"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.state);
    VhdxImage image;
    image.metadata.disk_size_bytes = 1 * MiB;
    image.entries = {{0, entry(test.state, first_block)}};
    CHECK(resolved(image).ends_with(test.base));
    image.make_differencing();
    image.entries.push_back({4096, entry(6, first_block + 1 * MiB)});
    auto file = image.build();
    set_bits(*file, first_block + 1 * MiB, 0, 2048);
    CHECK(resolved(*opened(std::move(file)), 0, 1 * MiB).ends_with(test.child));
  }
}

TEST_CASE("blocks that follow each other in disk and file are one extent, others are not") {
  VhdxImage image;
  image.entries = {{1, entry(6, 5 * MiB)}, {2, entry(6, 6 * MiB)}, {3, entry(6, 9 * MiB)},
                   {4, entry(2, 0)},       {5, entry(3, 7 * MiB)}, {7, entry(6, 4 * MiB)}};
  CHECK(
      resolved(image) ==
      "zero 0x0+0x100000, data 0x100000+0x200000 at 0x500000, data 0x300000+0x100000 at 0x900000, "
      "zero 0x400000+0x100000, zero 0x500000+0x100000, zero 0x600000+0x100000, "
      "data 0x700000+0x100000 at 0x400000");
  const auto layer = opened(image);
  CHECK(resolved(*layer, 0x1ffffff / 16, 2) == "data 0x1fffff+0x2 at 0x5fffff");
  CHECK(resolved(*layer, 8 * MiB - 1, 1) == "data 0x7fffff+0x1 at 0x4fffff");
}

TEST_CASE("bug class 6: a partially present block is told by its bits, for both sector sizes") {
  for (const uint32_t sector : {512u, 4096u}) {
    VhdxImage image;
    image.metadata.logical_sector_bytes = sector;
    image.make_differencing();
    const uint64_t bitmap_index = sector == 512 ? 4096 : 32768;
    image.entries = {{1, entry(7, 5 * MiB)}, {bitmap_index, entry(6, 4 * MiB)}};
    auto file = image.build();
    const uint64_t first = 1 * MiB / sector;  // the block's first bit in the chunk's bitmap
    set_bits(*file, 4 * MiB, first + 1, 2);
    set_bits(*file, 4 * MiB, first + 9, 1);
    const auto layer = opened(std::move(file));
    const auto part = [&](const char* kind, uint64_t from, uint64_t to) {
      return fmt::format("{} {:#x}+{:#x}", kind, 1 * MiB + from * sector, (to - from) * sector);
    };
    CHECK(resolved(*layer, 1 * MiB, 1 * MiB) ==
          fmt::format("{}, {} at {:#x}, {}, {} at {:#x}, {}", part("parent", 0, 1),
                      part("data", 1, 3), 5 * MiB + sector, part("parent", 3, 9),
                      part("data", 9, 10), 5 * MiB + 9 * sector,
                      part("parent", 10, 1 * MiB / sector)));
    CHECK(resolved(*layer, 1 * MiB + sector + 10, 5) ==
          fmt::format("data {:#x}+0x5 at {:#x}", 1 * MiB + sector + 10, 5 * MiB + sector + 10));
  }
}

TEST_CASE("bits are found in every piece of a bitmap and in every chunk") {
  VhdxImage image;
  image.metadata.block_size_bytes = 32 * MiB;
  image.metadata.disk_size_bytes = 8 * GiB;
  image.make_differencing();
  image.file_bytes = 256 * MiB;
  // Chunks of 128 blocks: 4 GiB. Their last blocks, and the second piece's first (at 256 MiB).
  image.entries = {{8, entry(7, 32 * MiB)},    {127, entry(7, 64 * MiB)},
                   {128, entry(6, 4 * MiB)},   {129, entry(7, 160 * MiB)},
                   {256, entry(7, 128 * MiB)}, {257, entry(6, 5 * MiB)}};
  auto file = image.build();
  set_bits(*file, 4 * MiB, 8 * 65536, 1);
  set_bits(*file, 4 * MiB, 128 * 65536 - 1, 1);
  set_bits(*file, 5 * MiB, 0, 1);
  set_bits(*file, 5 * MiB, 128 * 65536 - 1, 1);
  const auto layer = opened(std::move(file));
  CHECK(resolved(*layer, 256 * MiB, 32 * MiB) ==
        "data 0x10000000+0x200 at 0x2000000, parent 0x10000200+0x1fffe00");
  CHECK(resolved(*layer, 4 * GiB - 32 * MiB, 64 * MiB) ==
        "parent 0xfe000000+0x1fffe00, data 0xfffffe00+0x200 at 0x5fffe00, "
        "data 0x100000000+0x200 at 0xa000000, parent 0x100000200+0x1fffe00");
  CHECK(resolved(*layer, 8 * GiB - 512, 512) == "data 0x1fffffe00+0x200 at 0x9fffe00");
  REQUIRE_OK(await(layer->audit()));
}

TEST_CASE("a range of many extents ends early and goes on from there, inside a block too") {
  VhdxImage image;
  image.metadata.block_size_bytes = 256 * MiB;
  image.metadata.disk_size_bytes = 256 * MiB;
  image.file_bytes = 512 * MiB;
  image.make_differencing();
  image.entries = {{0, entry(7, 8 * MiB)}, {16, entry(6, 4 * MiB)}};
  auto file = image.build();
  const std::vector<std::byte> every_other(64 * KiB, std::byte{0x55});
  file->store(4 * MiB, every_other);
  const auto layer = opened(std::move(file));
  uint64_t at = 0;
  size_t rounds = 0;
  while (at < 256 * MiB) {
    ExtentList extents;
    REQUIRE_OK(await(layer->resolve(at, 256 * MiB - at, extents)));
    REQUIRE(extents.size() <= 4096);
    for (const disk::Extent& extent : extents) {
      REQUIRE(extent.disk_offset == at);
      REQUIRE(extent.length == 512);
      REQUIRE((extent.kind == disk::ExtentKind::data) == (at / 512 % 2 == 0));
      at += 512;
    }
    ++rounds;
  }
  CHECK(rounds == 128);
}

TEST_CASE("bug class 15: a disk that ends inside a block, and one that ends inside a chunk") {
  VhdxImage image;
  image.metadata.disk_size_bytes = 4 * GiB + 1 * MiB + 512;
  image.entries = {{4095, entry(6, 4 * MiB)}, {4097, entry(6, 6 * MiB)}, {4098, entry(6, 7 * MiB)}};
  const auto layer = opened(image);
  CHECK(resolved(*layer, 4 * GiB - 512, 1 * MiB + 1024) ==
        "data 0xfffffe00+0x200 at 0x4ffe00, data 0x100000000+0x100200 at 0x600000");
  REQUIRE_OK(await(layer->audit()));
}

TEST_CASE("bug class 23: QEMU's old cut-off last block is read where the disk has no more") {
  VhdxImage image;
  image.metadata.block_size_bytes = 8 * MiB;
  image.metadata.disk_size_bytes = 11 * MiB;
  image.entries = {{0, entry(6, 16 * MiB)}, {1, entry(6, 24 * MiB)}};
  image.file_bytes = 27 * MiB;
  CHECK(resolved(image) == "data 0x0+0xb00000 at 0x1000000");
  REQUIRE_OK(audited(image));
  image.file_bytes = 27 * MiB - 1;
  const std::string message =
      "a.vhdx: payload block 1 (BAT entry 1) at offset 0x300008: 0x1800006 puts the block's "
      "0x300000 bytes past the end of the file (0x1afffff)";
  CHECK(resolved(image) == message);
  REQUIRE_FAILS(Errc::corrupt, message, audited(image));
  // A block put behind the cut-off one is not upon it.
  image.file_bytes = 27 * MiB;
  image.entries = {{0, entry(6, 19 * MiB)}, {1, entry(6, 16 * MiB)}};
  REQUIRE_OK(audited(image));
}

TEST_CASE("bug class 7: blocks upon other structures, blocks or nothing are refused") {
  struct Case {
    std::vector<std::pair<uint64_t, uint64_t>> entries;
    const char* message;
    bool resolve_too;  // overlaps of blocks are the audit's
  };
  const Case cases[] = {
      {{{0, entry(6, 0)}}, "0x6 puts the block upon the header section (0x0 to 0x100000)", true},
      {{{1, entry(6, 1 * MiB)}},
       "0x100006 puts the block upon the log (0x100000 to 0x200000)",
       true},
      {{{1, entry(6, 2 * MiB)}}, "upon the metadata region (0x200000 to 0x300000)", true},
      {{{1, entry(6, 3 * MiB)}}, "upon the BAT region (0x300000 to 0x400000)", true},
      {{{1, entry(6, 7 * MiB)}},
       "upon the region aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee (0x800000 to 0xa00000)",
       true},
      {{{0, entry(6, 32 * MiB)}},
       "payload block 0 (BAT entry 0) at offset 0x300000: 0x2000006 puts the block's 0x200000 "
       "bytes "
       "past the end of the file (0x2000000)",
       true},
      {{{0, entry(6, ~uint64_t{0xfffff})}}, "past the end of the file (0x2000000)", true},
      {{{0, entry(6, 4 * MiB) | 0x8}}, "0x40000e has reserved bits set (0x8)", true},
      {{{3, entry(6, 12 * MiB)}, {1, entry(6, 12 * MiB)}},
       "a.vhdx: payload block 3 (BAT entry 3) at offset 0x300018 puts the block at 0xc00000, upon "
       "payload block 1 (BAT entry 1) (0xc00000 to 0xe00000)",
       false},
      {{{2, entry(6, 12 * MiB)}, {1, entry(6, 13 * MiB)}},
       "payload block 1 (BAT entry 1) at offset 0x300008 puts the block at 0xd00000, upon payload "
       "block 2",
       false},
  };
  for (const Case& test : cases) {
    VhdxImage image;
    image.metadata.block_size_bytes = 2 * MiB;
    image.entries = test.entries;
    auto file = image.build();
    std::vector<std::byte> table = build_region_table(image.bat, image.metadata_region);
    const RegionTableEntry unknown{
        .guid = Guid::literal("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee").stored(),
        .file_offset = 8 * MiB,
        .length = uint32_t(2 * MiB),
        .flags = 0};
    table[8] = std::byte{3};
    std::ranges::copy(bytes_of(unknown), table.begin() + 80);
    std::ranges::copy(bytes_of(le32(crc32c_without(table, 4))), table.begin() + 4);
    file->store(region_table_offsets[0], table);
    const auto layer = opened(std::move(file));
    REQUIRE_FAILS(Errc::corrupt, test.message, await(layer->audit()));
    ExtentList extents;
    const auto done = await(layer->resolve(0, 8 * MiB, extents));
    CHECK(done.has_value() != test.resolve_too);
    if (test.resolve_too) REQUIRE_FAILS(Errc::corrupt, test.message, done);
  }
}

TEST_CASE("corrupt: sector bitmap entries that a partially present block cannot use") {
  struct Case {
    uint64_t bitmap_entry;
    const char* message;
  };
  const Case cases[] = {
      {0,
       "a.vhdx: sector bitmap block 0 (BAT entry 4096) at offset 0x308000: 0x0: the block is not "
       "present, but payload block 2 (BAT entry 2) is partially present"},
      {entry(2, 4 * MiB), "0x400002 state 2 is not a sector bitmap block's"},
      {entry(7, 4 * MiB), "0x400007 state 7 is not a sector bitmap block's"},
      {entry(6, 3 * MiB), "0x300006 puts the block upon the BAT region"},
      {entry(6, 32 * MiB), "puts the block's 0x100000 bytes past the end of the file"},
      {entry(6, 4 * MiB) | 0x80000, "has reserved bits set (0x80000)"},
  };
  for (const Case& test : cases) {
    VhdxImage image;
    image.make_differencing();
    image.entries = {{2, entry(7, 8 * MiB)}, {4096, test.bitmap_entry}};
    CHECK(resolved(image).find(test.message) != std::string::npos);
    REQUIRE_FAILS(Errc::corrupt, test.message, audited(image));
  }
}

TEST_CASE("corrupt: a sector bitmap block upon a payload block") {
  VhdxImage image;
  image.make_differencing();
  image.entries = {{2, entry(7, 8 * MiB)}, {4096, entry(6, 8 * MiB)}};
  REQUIRE_FAILS(Errc::corrupt,
                "sector bitmap block 0 (BAT entry 4096) at offset 0x308000 puts the block at "
                "0x800000, upon payload block 2 (BAT entry 2) (0x800000 to 0x900000)",
                audited(image));
}

TEST_CASE("a disk without parent does not look at its sector bitmap entries") {
  VhdxImage image;
  image.metadata.disk_size_bytes = 4 * GiB + 1 * MiB;
  image.entries = {{4096, entry(7, 0)}};
  REQUIRE_OK(audited(image));
}

TEST_CASE("more blocks than the file can hold are an overlap, found without keeping them all") {
  VhdxImage image;
  image.metadata.disk_size_bytes = 4 * GiB;
  for (uint64_t i = 0; i < 4096; ++i) image.entries.push_back({i, entry(6, (4 + i % 28) * MiB)});
  REQUIRE_FAILS(Errc::corrupt, "puts the block at 0x400000, upon payload block 0", audited(image));
}

}  // namespace
}  // namespace vhdkit::vhdx
