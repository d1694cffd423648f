#include "vsp-storage/scsi/transfer.h"

#include "disk/buffer_cutter.h"
#include "support/bytes.h"
#include "tests/support/content.h"
#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

using tests::random_bytes;

struct Pair {
  const char* name;
  uint8_t read;
  uint8_t write;
};
constexpr Pair pairs[] = {
    {"6", 0x08, 0x0a}, {"10", 0x28, 0x2a}, {"12", 0xa8, 0xaa}, {"16", 0x88, 0x8a}};

TEST_CASE("READ and WRITE 6, 10, 12, 16: Simple") {
  for (const uint32_t block_bytes : {512U, 4096U})
    for (const Pair& pair : pairs) {
      CAPTURE(pair.name);
      TestDisk test(TestDisk::default_options(), block_bytes, 4096);
      for (const uint64_t count : {1, 2, 17, 255}) {
        CAPTURE(count);
        for (const uint64_t lba : {uint64_t{0}, uint64_t{3}, 1024 - count}) {
          const Bytes data = random_bytes(count * block_bytes, unsigned(lba + count));
          const Outcome written =
              test.initiator.out(block_cdb(pair.write, {.lba = lba, .count = count}), data);
          CHECK(said(written) == "good");
          CHECK(written.transferred_bytes == data.size());
          const Outcome read =
              test.initiator.in(block_cdb(pair.read, {.lba = lba, .count = count}), data.size());
          CHECK(said(read) == "good");
          CHECK(read.transferred_bytes == data.size());
          REQUIRE_EQUAL(test.initiator.data(), data);
        }
      }
    }
}

TEST_CASE("READ6 and WRITE6: 0 is 256 blocks") {
  TestDisk test;
  const Bytes data = random_bytes(256 * 512, 1);
  CHECK(said(test.initiator.out(cdb6(0x0a, {.lba = 5}), data)) == "good");
  const Outcome read = test.initiator.in(cdb6(0x08, {.lba = 5}), data.size());
  CHECK(read.transferred_bytes == data.size());
  REQUIRE_EQUAL(test.initiator.data(), data);
  CHECK(said(test.initiator.in(cdb6(0x08, {.lba = 1024 - 255}), data.size())) == "5/21/00");
}

TEST_CASE("READ and WRITE: BeyondEol") {
  TestDisk test;
  struct Case {
    uint64_t lba;
    uint64_t count;
  };
  for (const Pair& pair : pairs) {
    CAPTURE(pair.name);
    for (const Case& at : {Case{1024, 1}, Case{1023, 2}, Case{800, 255}, Case{0x1fffff, 2}}) {
      CAPTURE(at.lba);
      const Blocks blocks{.lba = at.lba, .count = at.count};
      const Bytes data = test.blocks(at.count, 1);
      CHECK(said(test.initiator.in(block_cdb(pair.read, blocks), data.size())) == "5/21/00");
      CHECK(said(test.initiator.out(block_cdb(pair.write, blocks), data)) == "5/21/00");
    }
  }
  for (const uint64_t lba : {uint64_t{0xffffffff}, uint64_t{1} << 63, UINT64_MAX}) {
    CAPTURE(lba);
    CHECK(said(test.initiator.read({.lba = lba, .count = 1})) == "5/21/00");
    CHECK(said(test.initiator.write({.lba = lba, .count = 1}, test.blocks(1, 1))) == "5/21/00");
  }
  // 32 bits of blocks, of which each is inside 64 bits of bytes.
  CHECK(said(test.initiator.in(cdb16(0x88, {.lba = 0, .count = UINT32_MAX}), 512)) == "5/21/00");
  CHECK(test.disk.reads + test.disk.cached_writes == 0);
}

TEST_CASE("READ and WRITE 10, 12, 16: ZeroBlocks") {
  TestDisk test;
  for (const Pair& pair : std::span(pairs).subspan(1)) {
    CAPTURE(pair.name);
    for (const uint8_t opcode : {pair.read, pair.write}) {
      for (const uint64_t lba : {0, 1024}) {
        const Outcome outcome = test.initiator.none(block_cdb(opcode, {.lba = lba}));
        CHECK(said(outcome) == "good");
        CHECK(outcome.transferred_bytes == 0);
      }
      CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1025}))) == "5/21/00");
    }
  }
}

TEST_CASE("READ and WRITE 10, 12, 16: ReadProtect and WriteProtect") {
  TestDisk test;
  for (const Pair& pair : std::span(pairs).subspan(1))
    for (uint8_t protect = 1; protect < 8; ++protect) {
      const auto flags = uint8_t(protect << 5);
      const Blocks blocks{.count = 1, .flags = flags};
      const Outcome read = test.initiator.in(block_cdb(pair.read, blocks), 512);
      CHECK(said(read) == "5/24/00");
      CHECK(field(read) == "cdb 1.7");
      const Outcome written = test.initiator.out(block_cdb(pair.write, blocks), test.blocks(1, 1));
      CHECK(said(written) == "5/24/00");
    }
}

TEST_CASE("READ and WRITE 10, 12, 16: DpoFua; a write with FUA is durable") {
  TestDisk test;
  uint64_t durable = 0;
  for (const Pair& pair : std::span(pairs).subspan(1))
    for (const uint8_t flags : {uint8_t{0x10}, uint8_t{0x08}, uint8_t{0x18}}) {
      const Blocks blocks{.count = 1, .flags = flags};
      CHECK(said(test.initiator.in(block_cdb(pair.read, blocks), 512)) == "good");
      CHECK(said(test.initiator.out(block_cdb(pair.write, blocks), test.blocks(1, 1))) == "good");
      durable += (flags & 8) != 0 ? 1 : 0;
      CHECK(test.disk.durable_writes == durable);
    }
  CHECK(test.disk.cached_writes == 3);
  CHECK(test.disk.flushes == 0);
}

TEST_CASE("with the write cache off every write is durable") {
  DiskUnitOptions options = TestDisk::default_options();
  options.write_cache = false;
  TestDisk test(options);
  for (const Pair& pair : pairs)
    CHECK(said(test.initiator.out(block_cdb(pair.write, {.count = 1}), test.blocks(1, 1))) ==
          "good");
  CHECK(test.disk.durable_writes == 4);
  CHECK(test.disk.cached_writes == 0);
}

TEST_CASE("Read10Residuals, Write10Residuals: buffers longer and shorter than the CDB says") {
  for (const Pair& pair : pairs) {
    CAPTURE(pair.name);
    TestDisk test;
    const Blocks two{.lba = 8, .count = 2};
    CHECK(said(test.initiator.write({.lba = 8, .count = 2}, test.blocks(2, 0x11))) == "good");
    // Longer: no more than two blocks move.
    for (const size_t size : {1025, 10000}) {
      const Outcome read = test.initiator.in(block_cdb(pair.read, two), size);
      CHECK(said(read) == "good");
      CHECK(read.transferred_bytes == 1024);
      CHECK(test.initiator.data()[1023] == std::byte{0x11});
      CHECK(test.initiator.data()[1024] == std::byte{0xa5});
      const Outcome written =
          test.initiator.out(block_cdb(pair.write, two), Bytes(size, std::byte{0x22}));
      CHECK(said(written) == "good");
      CHECK(written.transferred_bytes == 1024);
      CHECK(is_zero(test.content(10, 1)));
      CHECK(said(test.initiator.write({.lba = 8, .count = 2}, test.blocks(2, 0x11))) == "good");
    }
    // Shorter: an overrun. A read moves what there is room for, a write whole blocks.
    const std::pair<size_t, size_t> shorter[] = {{0, 0}, {511, 0}, {512, 512}, {1023, 512}};
    for (const auto& [size, moved] : shorter) {
      CAPTURE(size);
      const Outcome read = test.initiator.in(block_cdb(pair.read, two), size);
      CHECK(said(read) == "overrun");
      CHECK(read.transferred_bytes == size);
      CHECK(test.initiator.data() == Bytes(size, std::byte{0x11}));
      const Outcome written =
          test.initiator.out(block_cdb(pair.write, two), Bytes(size, std::byte{0x33}));
      CHECK(said(written) == "overrun");
      CHECK(written.transferred_bytes == moved);
      CHECK(test.content(9, 1) == test.blocks(1, 0x11));
      CHECK(test.content(8, 1) == test.blocks(1, moved == 0 ? 0x11 : 0x33));
      CHECK(said(test.initiator.write({.lba = 8, .count = 2}, test.blocks(2, 0x11))) == "good");
    }
  }
}

TEST_CASE("data in the wrong direction is no transfer") {
  TestDisk test;
  for (const Pair& pair : pairs) {
    Bytes data = test.blocks(1, 0x77);
    const Blocks one{.count = 1};
    const Outcome read = test.initiator.send(block_cdb(pair.read, one), Direction::to_device, data);
    CHECK(said(read) == "B/4B/00");
    const Outcome written =
        test.initiator.send(block_cdb(pair.write, one), Direction::from_device, data);
    CHECK(said(written) == "B/4B/00");
    CHECK(said(test.initiator.send(block_cdb(pair.read, one), Direction::none, data)) == "overrun");
    CHECK(said(test.initiator.send(block_cdb(pair.write, one), Direction::none, data)) ==
          "overrun");
  }
  CHECK(is_zero(test.content(0, 1)));
}

TEST_CASE("ReadOnlySBC: a disk that is open for reading, and one that is protected") {
  TestDisk test;
  WatchedDisk read_only(
      {.size_bytes = 1024 * 512, .logical_sector_bytes = 512, .physical_sector_bytes = 512});
  DiskUnit unit(TestDisk::default_options());
  TestInitiator initiator(unit, read_only);
  initiator.settle();
  const Bytes one = test.blocks(1, 1);
  const std::pair<Bytes, Bytes> commands[] = {
      {cdb6(0x0a, {.count = 1}), one},
      {cdb10(0x2a, {.count = 1}), one},
      {cdb12(0xaa, {.count = 1}), one},
      {cdb16(0x8a, {.count = 1}), one},
      {cdb10(0x2e, {.count = 1}), one},
      {cdb12(0xae, {.count = 1}), one},
      {cdb16(0x8e, {.count = 1}), one},
      {cdb10(0x41, {.count = 1}), one},
      {cdb16(0x93, {.count = 1}), one},
      {cdb10(0x41, {.count = 1, .flags = 8}), one},
      {cdb16(0x93, {.count = 1, .flags = 8}), one},
  };
  for (const auto& [cdb, data] : commands) CHECK(said(initiator.out(cdb, data)) == "7/27/00");
  Bytes compare_and_write = cdb16(0x89, {});
  compare_and_write[13] = std::byte{1};
  CHECK(said(initiator.out(compare_and_write, test.blocks(2, 0))) == "7/27/00");
  CHECK(said(initiator.read({.count = 1})) == "good");
  CHECK(said(initiator.none(cdb10(0x35, {}))) == "good");
  // It cannot unmap, so it does not say that it can.
  CHECK(said(initiator.out(cdb10(0x42, {.count = 8}), Bytes(8))) == "5/20/00");
  CHECK(read_only.durable_writes + read_only.cached_writes + read_only.zeroings == 0);
}

TEST_CASE("an error of the disk is what the guest is told") {
  struct Case {
    Errc code;
    const char* reading;
    const char* writing;
  };
  const Case cases[] = {
      {Errc::io, "3/11/00", "3/0C/00"},
      {Errc::corrupt, "3/11/00", "3/0C/00"},
      {Errc::wrong_parent, "3/11/00", "3/0C/00"},
      {Errc::permission, "3/11/00", "7/27/00"},
      {Errc::out_of_range, "5/21/00", "5/21/00"},
      {Errc::read_only, "7/27/00", "7/27/00"},
      {Errc::no_space, "7/27/07", "7/27/07"},
      {Errc::not_found, "2/04/03", "2/04/03"},
      {Errc::unsupported, "4/44/00", "4/44/00"},
      {Errc::invalid_argument, "4/44/00", "4/44/00"},
      {Errc::exists, "4/44/00", "4/44/00"},
      {Errc::interrupted, "B/00/00", "B/00/00"},
      {Errc::busy, "busy", "busy"},
  };
  TestDisk test;
  for (const Case& each : cases) {
    CAPTURE(each.writing);
    test.disk.failing_reads = test.disk.failing_writes = test.disk.failing_flushes = each.code;
    test.disk.failing_zeroings = test.disk.failing_extents = each.code;
    CHECK(said(test.initiator.read({.count = 1})) == each.reading);
    CHECK(said(test.initiator.none(cdb10(0x2f, {.count = 1}))) == each.reading);
    CHECK(said(test.initiator.in(cdb16(0x9e, {.count = 24, .flags = 0x12}), 24)) == each.reading);
    CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == each.writing);
    CHECK(said(test.initiator.out(cdb10(0x2e, {.count = 1}), test.blocks(1, 1))) == each.writing);
    CHECK(said(test.initiator.none(cdb10(0x35, {}))) == each.writing);
    CHECK(said(test.initiator.out(cdb16(0x93, {.count = 1}), test.blocks(1, 0))) == each.writing);
    CHECK(said(test.initiator.out(cdb16(0x93, {.count = 1}), test.blocks(1, 1))) == each.writing);
    Bytes list(24);
    store(list, 2, 16, 2);
    store(list, 16, 1, 4);
    CHECK(said(test.initiator.out(cdb10(0x42, {.count = 24}), list)) == each.writing);
  }
}

TEST_CASE(
    "buffers are cut where the command ends, and are the guest's own where that is between two") {
  std::vector<Bytes> pages(130, Bytes(4096));
  std::vector<iovec> vectors;
  for (Bytes& page : pages) vectors.push_back({page.data(), page.size()});
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4095}, uint64_t{4096}, uint64_t{4097},
                               uint64_t{65 * 4096 + 8}, uint64_t{130 * 4096 - 1}}) {
    CAPTURE(bytes);
    const std::vector<iovec> cut = disk::BufferCutter(vectors).next(bytes);
    CHECK(total_bytes(cut) == bytes);
    CHECK(cut.front().iov_base == pages[0].data());
    const auto whole = exactly(vectors, bytes);
    CHECK(whole.has_value() == (bytes == 4096));
    if (whole) CHECK(whole->data() == vectors.data());
  }
}

}  // namespace
}  // namespace vhdkit::scsi
