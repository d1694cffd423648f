#include "vsp-storage/scsi/provisioning.h"

#include "support/bytes.h"
#include "tests/support/content.h"
#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

using tests::random_bytes;

constexpr uint8_t unmap_flag = 0x08;

struct Extent {
  uint64_t lba;
  uint64_t count;
};

Bytes unmap_list(std::initializer_list<Extent> extents) {
  Bytes list(8 + 16 * extents.size());
  store(list, 0, list.size() - 2, 2);
  store(list, 2, list.size() - 8, 2);
  size_t at = 8;
  for (const Extent& extent : extents) {
    store(list, at, extent.lba, 8);
    store(list, at + 8, extent.count, 4);
    at += 16;
  }
  return list;
}

Outcome unmap_blocks(TestDisk& test, const Bytes& list) {
  return test.initiator.out(cdb10(0x42, {.count = list.size()}), list);
}

// A disk whose blocks all hold 0xee.
struct FullDisk : TestDisk {
  explicit FullDisk(uint32_t block_size = 512)
      : TestDisk(TestDisk::default_options(), block_size, 4096) {
    CHECK(said(initiator.write({.count = 1024}, blocks(1024, 0xee))) == "good");
  }
};

TEST_CASE("UNMAP: Simple: what is unmapped reads as zeroes, and nothing else") {
  for (const uint32_t block_bytes : {512U, 4096U})
    for (const Extent& extent : {Extent{0, 1}, Extent{3, 13}, Extent{1000, 24}, Extent{0, 1024}}) {
      FullDisk test(block_bytes);
      const Outcome outcome = unmap_blocks(test, unmap_list({extent}));
      CHECK(said(outcome) == "good");
      CHECK(outcome.transferred_bytes == 24);
      Bytes expected = test.blocks(1024, 0xee);
      std::fill_n(expected.begin() + ptrdiff_t(extent.lba * block_bytes),
                  extent.count * block_bytes, std::byte{0});
      REQUIRE_EQUAL(test.content(0, 1024), expected);
      CHECK(test.disk.flushes == 0);
    }
}

TEST_CASE("UNMAP: ZeroBlocks, no descriptors, no parameters, a piece of a descriptor") {
  FullDisk test;
  CHECK(said(unmap_blocks(test, unmap_list({{5, 0}}))) == "good");
  CHECK(said(unmap_blocks(test, unmap_list({{1024, 0}}))) == "good");
  CHECK(said(unmap_blocks(test, unmap_list({}))) == "good");
  CHECK(said(unmap_blocks(test, {})) == "good");
  Bytes cut = unmap_list({{0, 1}, {1, 1}});
  store(cut, 2, 31, 2);  // one and a half
  CHECK(said(unmap_blocks(test, cut)) == "good");
  CHECK(is_zero(test.content(0, 1)));
  CHECK(test.content(1, 1) == test.blocks(1, 0xee));
  CHECK(test.disk.zeroings == 1);
}

TEST_CASE("UNMAP looks at all descriptors before it does the first") {
  FullDisk test;
  CHECK(said(unmap_blocks(test, unmap_list({{0, 1}, {1, 1}, {1023, 2}}))) == "5/21/00");
  CHECK(said(unmap_blocks(test, unmap_list({{0, 1}, {UINT64_MAX, 1}}))) == "5/21/00");
  CHECK(said(unmap_blocks(test, unmap_list({{0, 1}, {1025, 0}}))) == "5/21/00");
  Bytes lies = unmap_list({{0, 1}});
  store(lies, 2, 32, 2);  // a second one, behind the end
  CHECK(said(unmap_blocks(test, lies)) == "5/1A/00");
  CHECK(said(unmap_blocks(test, Bytes(7))) == "5/1A/00");
  // The CDB says more than the buffers hold.
  CHECK(said(test.initiator.out(cdb10(0x42, {.count = 25}), unmap_list({{0, 1}}))) == "5/1A/00");
  CHECK(field(test.initiator.out(cdb10(0x42, {.count = 24, .flags = 1}), unmap_list({{0, 1}}))) ==
        "cdb 1.0");
  CHECK(test.disk.zeroings == 0);
  test.disk.failing_zeroings = Errc::io;
  CHECK(said(unmap_blocks(test, unmap_list({{0, 1}}))) == "3/0C/00");
}

TEST_CASE("UNMAP: the limits of page B0 hold") {
  TestDisk test;
  Bytes list(8 + 257 * 16);
  store(list, 2, 256 * 16, 2);
  CHECK(said(unmap_blocks(test, list)) == "good");
  store(list, 2, 257 * 16, 2);
  CHECK(field(unmap_blocks(test, list)) == "data 2");
  WatchedDisk large({.size_bytes = uint64_t{1} << 40,
                     .logical_sector_bytes = 512,
                     .physical_sector_bytes = 512,
                     .read_only = false});
  TestInitiator initiator(test.unit, large);
  const auto send = [&initiator](const Bytes& parameters) {
    return initiator.out(cdb10(0x42, {.count = parameters.size()}), parameters);
  };
  CHECK(said(send(unmap_list({{0, 1 << 20}}))) == "good");
  CHECK(said(send(unmap_list({{0, 1 << 19}, {1 << 19, 1 << 19}}))) == "good");
  CHECK(field(send(unmap_list({{0, (1 << 20) + 1}}))) == "data 16");
  CHECK(field(send(unmap_list({{0, 1 << 20}, {1 << 20, 1}}))) == "data 32");
  CHECK(large.zeroings == 3);
}

TEST_CASE("UNMAP: VPD: a disk that cannot unmap does not know the command") {
  DiskUnitOptions options;
  TestDisk test(options);
  CHECK(said(unmap_blocks(test, unmap_list({{0, 1}}))) == "5/20/00");
  CHECK(field(test.initiator.out(cdb16(0x93, {.count = 1, .flags = unmap_flag}),
                                 test.blocks(1, 0))) == "cdb 1.3");
}

TEST_CASE("with the write cache off, unmapping and writing the same are flushed") {
  DiskUnitOptions options = TestDisk::default_options();
  options.write_cache = false;
  TestDisk test(options);
  CHECK(said(unmap_blocks(test, unmap_list({{0, 1}}))) == "good");
  CHECK(test.disk.flushes == 1);
  for (const unsigned value : {0U, 1U})
    CHECK(said(test.initiator.out(cdb16(0x93, {.count = 9}), test.blocks(1, value))) == "good");
  CHECK(test.disk.flushes == 3);
  test.disk.failing_flushes = Errc::no_space;
  CHECK(said(unmap_blocks(test, unmap_list({{0, 1}}))) == "7/27/07");
}

TEST_CASE("WRITE SAME 10, 16: Simple, Check, Unmap, UnmapUnaligned") {
  for (const uint32_t block_bytes : {512U, 4096U})
    for (const uint8_t opcode : {uint8_t{0x41}, uint8_t{0x93}})
      for (const uint8_t flags : {uint8_t{0}, unmap_flag})
        for (const unsigned value : {0U, 0x42U})
          for (const Extent& extent : {Extent{0, 1}, Extent{5, 900}, Extent{1023, 1}}) {
            FullDisk test(block_bytes);
            const Blocks blocks{.lba = extent.lba, .count = extent.count, .flags = flags};
            const Outcome outcome =
                test.initiator.out(block_cdb(opcode, blocks), test.blocks(1, value));
            CHECK(said(outcome) == "good");
            CHECK(outcome.transferred_bytes == block_bytes);
            Bytes expected = test.blocks(1024, 0xee);
            std::fill_n(expected.begin() + ptrdiff_t(extent.lba * block_bytes),
                        extent.count * block_bytes, std::byte(value));
            REQUIRE_EQUAL(test.content(0, 1024), expected);
            CHECK(test.disk.zeroings == (value == 0 ? 1 : 0));
          }
}

TEST_CASE("WRITE SAME asks before each piece that it writes, and ends where it may not go on") {
  for (const uint8_t opcode : {uint8_t{0x41}, uint8_t{0x93}}) {
    TestDisk test;
    CountedPace enough(4), one_piece(1);
    test.initiator.pace = &enough;
    const Bytes all = block_cdb(opcode, {.count = 1000});
    CHECK(said(test.initiator.out(all, test.blocks(1, 0x11))) == "good");
    CHECK(enough.asked == std::vector<uint64_t>{256 * KiB, 1000 * 512 - 256 * KiB});
    const uint64_t writes = test.disk.cached_writes;
    test.initiator.pace = &one_piece;
    CHECK(said(test.initiator.out(all, test.blocks(1, 0x22))) == "B/00/00");
    CHECK(test.disk.cached_writes == writes + 1);
  }
}

TEST_CASE("WRITE SAME 10, 16: UnmapUntilEnd, ZeroBlocks, BeyondEol") {
  for (const uint8_t opcode : {uint8_t{0x41}, uint8_t{0x93}}) {
    FullDisk test;
    const Blocks rest{.lba = 1000, .flags = unmap_flag};
    CHECK(said(test.initiator.out(block_cdb(opcode, rest), test.blocks(1, 0))) == "good");
    CHECK(is_zero(test.content(1000, 24)));
    CHECK(test.content(999, 1) == test.blocks(1, 0xee));
    const Bytes one = test.blocks(1, 1);
    CHECK(said(test.initiator.out(block_cdb(opcode, {.lba = 1024}), one)) == "good");
    CHECK(said(test.initiator.out(block_cdb(opcode, {.lba = 1025}), one)) == "5/21/00");
    CHECK(said(test.initiator.out(block_cdb(opcode, {.lba = 1023, .count = 2}), one)) == "5/21/00");
    CHECK(said(test.initiator.out(block_cdb(opcode, {.lba = 0xffffffff, .count = 1}), one)) ==
          "5/21/00");
  }
  FullDisk test;
  for (const uint64_t lba : {uint64_t{1} << 63, UINT64_MAX})
    CHECK(said(test.initiator.out(cdb16(0x93, {.lba = lba, .count = 1}), test.blocks(1, 0))) ==
          "5/21/00");
}

TEST_CASE("WRITE SAME 10, 16: WriteProtect, ANCHOR, InvalidDataOutSize") {
  FullDisk test;
  const Bytes one = test.blocks(1, 0);
  const std::pair<uint8_t, const char*> flags[] = {{0x20, "cdb 1.7"},
                                                   {0x10, "cdb 1.4"},
                                                   {0x18, "cdb 1.4"},
                                                   {0x04, "cdb 1.2"},
                                                   {0x02, "cdb 1.2"}};
  for (const uint8_t opcode : {uint8_t{0x41}, uint8_t{0x93}}) {
    for (const auto& [flag, says] : flags)
      CHECK(field(test.initiator.out(block_cdb(opcode, {.count = 1, .flags = flag}), one)) == says);
    for (const size_t size : {0, 256, 511, 513, 1024})
      CHECK(said(test.initiator.out(block_cdb(opcode, {.count = 1}), Bytes(size))) == "B/4B/00");
  }
  CHECK(field(test.initiator.none(cdb10(0x41, {.count = 1, .flags = 1}))) == "cdb 1.0");
  CHECK(test.disk.zeroings == 0);
}

TEST_CASE("WRITE SAME 16 with NDOB writes zeroes without data") {
  FullDisk test;
  const Outcome outcome = test.initiator.none(cdb16(0x93, {.lba = 7, .count = 3, .flags = 1}));
  CHECK(said(outcome) == "good");
  CHECK(outcome.transferred_bytes == 0);
  CHECK(is_zero(test.content(7, 3)));
  CHECK(test.content(10, 1) == test.blocks(1, 0xee));
}

TEST_CASE("WRITE SAME 10, 16: UnmapVPD: MAXIMUM WRITE SAME LENGTH holds") {
  TestDisk test;
  WatchedDisk large({.size_bytes = uint64_t{1} << 40,
                     .logical_sector_bytes = 512,
                     .physical_sector_bytes = 512,
                     .read_only = false});
  TestInitiator initiator(test.unit, large);
  REQUIRE(said(initiator.in(bytes_of_values({0x12, 1, 0xb0, 0, 64, 0}), 64)) == "good");
  const uint64_t most = value_at(initiator.data(), 36, 8);
  CHECK(most == 131072);
  CHECK(said(initiator.out(cdb16(0x93, {.count = most}), test.blocks(1, 0))) == "good");
  CHECK(field(initiator.out(cdb16(0x93, {.count = most + 1}), test.blocks(1, 0))) == "cdb 10");
  CHECK(field(initiator.out(cdb16(0x93, {}), test.blocks(1, 0))) == "cdb 10");
  CHECK(field(initiator.out(cdb10(0x41, {}), test.blocks(1, 0))) == "cdb 7");
}

Bytes status_cdb(uint64_t lba, uint64_t allocation_length) {
  return cdb16(0x9e, {.lba = lba, .count = allocation_length, .flags = 0x12});
}

struct Status {
  uint64_t lba;
  uint64_t count;
  uint64_t provisioning;
  friend bool operator==(const Status&, const Status&) = default;
};

std::vector<Status> statuses(TestDisk& test, uint64_t lba) {
  REQUIRE(said(test.initiator.in(status_cdb(lba, 4096), 4096)) == "good");
  const Bytes& data = test.initiator.data();
  std::vector<Status> found;
  const uint64_t end = value_at(data, 0, 4) + 4;
  for (size_t at = 8; at < end; at += 16)
    found.push_back({value_at(data, at, 8), value_at(data, at + 8, 4), value_at(data, at + 12, 1)});
  return found;
}

TEST_CASE("GET LBA STATUS: Simple, UnmapSingle: as the disk's extents are") {
  TestDisk test;  // a RAM disk has pages of 8 blocks
  CHECK(statuses(test, 0) == std::vector<Status>{{0, 1024, 1}});
  CHECK(said(test.initiator.write({.lba = 16, .count = 8}, test.blocks(8, 1))) == "good");
  CHECK(said(test.initiator.write({.lba = 100, .count = 1}, test.blocks(1, 1))) == "good");
  CHECK(statuses(test, 0) ==
        std::vector<Status>{{0, 16, 1}, {16, 8, 0}, {24, 72, 1}, {96, 8, 0}, {104, 920, 1}});
  CHECK(statuses(test, 20).front() == Status{20, 4, 0});
  CHECK(statuses(test, 1023) == std::vector<Status>{{1023, 1, 1}});
  CHECK(said(unmap_blocks(test, unmap_list({{16, 8}}))) == "good");
  CHECK(statuses(test, 16).front() == Status{16, 80, 1});
}

TEST_CASE("GET LBA STATUS: BeyondEol, short allocation lengths") {
  TestDisk test;
  for (const uint64_t lba : {uint64_t{1024}, uint64_t{1} << 63, UINT64_MAX})
    CHECK(said(test.initiator.in(status_cdb(lba, 24), 24)) == "5/21/00");
  for (const uint64_t length : {0, 8, 15, 23, 24}) {
    const Outcome outcome = test.initiator.in(status_cdb(0, length), 24);
    CHECK(said(outcome) == "good");
    CHECK(outcome.transferred_bytes == length);
  }
  CHECK(value_at(test.initiator.data(), 0, 4) == 20);
}

TEST_CASE("GET LBA STATUS: no more descriptors than fit, and a guest goes on from there") {
  TestDisk test;
  for (uint64_t lba = 0; lba < 1024; lba += 16)
    CHECK(said(test.initiator.write({.lba = lba, .count = 1}, test.blocks(1, 1))) == "good");
  CHECK(said(test.initiator.in(status_cdb(0, 8 + 3 * 16), 4096)) == "good");
  CHECK(value_at(test.initiator.data(), 0, 4) == 4 + 3 * 16);
  CHECK(value_at(test.initiator.data(), 8 + 2 * 16, 8) == 16);
  CHECK(value_at(test.initiator.data(), 8 + 2 * 16 + 8, 4) == 8);
  CHECK(statuses(test, 24).front() == Status{24, 8, 1});
  CHECK(statuses(test, 0).size() == 128);
}

}  // namespace
}  // namespace vhdkit::scsi
