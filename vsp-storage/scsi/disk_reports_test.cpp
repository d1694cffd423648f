#include "vsp-storage/scsi/disk_reports.h"

#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

Bytes sense6(unsigned page, unsigned allocation_length = 255, unsigned flags = 0,
             unsigned subpage = 0) {
  return bytes_of_values({0x1a, flags, page, subpage, allocation_length, 0});
}
Bytes sense10(unsigned page, unsigned flags = 0) {
  return bytes_of_values({0x5a, flags, page, 0, 0, 0, 0, 1, 0, 0});
}
Bytes select6(unsigned length, unsigned flags = 0x10) {
  return bytes_of_values({0x15, flags, 0, 0, length, 0});
}

Bytes caching_page(unsigned wce) {
  Bytes page(20);
  page[0] = std::byte{0x08};
  page[1] = std::byte{18};
  page[2] = std::byte(wce);
  return page;
}
Bytes control_page(unsigned swp) {
  return bytes_of_values({0x0a, 10, 0, 0x10, swp, 0, 0, 0, 0, 0, 0, 0});
}
Bytes list6(std::initializer_list<Bytes> pages) {
  Bytes list(4);
  for (const Bytes& page : pages) list.insert(list.end(), page.begin(), page.end());
  return list;
}
Outcome select(TestInitiator& initiator, const Bytes& list) {
  return initiator.out(select6(unsigned(list.size())), list);
}

TEST_CASE("READ CAPACITY 10: Simple; the last block, and all ones beyond 32 bits") {
  TestDisk test;
  CHECK(said(test.initiator.in(cdb10(0x25, {}), 8)) == "good");
  CHECK(value_at(test.initiator.data(), 0, 4) == 1023);
  CHECK(value_at(test.initiator.data(), 4, 4) == 512);
  CHECK(field(test.initiator.in(cdb10(0x25, {.lba = 1}), 8)) == "cdb 2");
  test.disk.set_size((uint64_t{1} << 32) * 512);
  CHECK(said(test.initiator.in(cdb10(0x25, {}), 8)) == "good");
  CHECK(value_at(test.initiator.data(), 0, 4) == 0xffffffff);
}

TEST_CASE("READ CAPACITY 16: Simple, Alloclen, PI, Support") {
  struct Case {
    uint32_t logical;
    uint32_t physical;
    uint64_t exponent;
  };
  for (const Case& each : {Case{512, 512, 0}, Case{512, 4096, 3}, Case{4096, 4096, 0}}) {
    TestDisk test(TestDisk::default_options(), each.logical, each.physical);
    CHECK(said(test.initiator.in(cdb16(0x9e, {.count = 32, .flags = 0x10}), 32)) == "good");
    const Bytes& data = test.initiator.data();
    CHECK(value_at(data, 0, 8) == 1023);
    CHECK(value_at(data, 8, 4) == each.logical);
    CHECK(value_at(data, 12, 1) == 0);  // no protection
    CHECK(value_at(data, 13, 1) == each.exponent);
    CHECK(value_at(data, 14, 2) == 0xc000);  // LBPME, LBPRZ
    CHECK(value_at(data, 16, 8) == 0);
    for (uint64_t length = 0; length < 16; ++length) {
      const Outcome outcome = test.initiator.in(cdb16(0x9e, {.count = length, .flags = 0x10}), 32);
      CHECK(said(outcome) == "good");
      CHECK(outcome.transferred_bytes == length);
    }
  }
  TestDisk thick((DiskUnitOptions()));
  CHECK(said(thick.initiator.in(cdb16(0x9e, {.count = 32, .flags = 0x10}), 32)) == "good");
  CHECK(value_at(thick.initiator.data(), 14, 2) == 0);
  CHECK(field(thick.initiator.in(cdb16(0x9e, {.count = 32, .flags = 0x1f}), 32)) == "cdb 1.4");
}

TEST_CASE("MODE SENSE 6: AllPages, Control, Control-D_SENSE, Residuals; as Linux asks") {
  TestDisk test;
  const Outcome outcome = test.initiator.in(sense6(0x3f), 255);
  CHECK(said(outcome) == "good");
  CHECK(outcome.transferred_bytes == 4 + 8 + 20 + 12 + 12);
  const Bytes& data = test.initiator.data();
  CHECK(value_at(data, 0, 1) == outcome.transferred_bytes - 1);
  CHECK(value_at(data, 2, 1) == 0x10);  // DPOFUA
  CHECK(value_at(data, 3, 1) == 8);
  CHECK(value_at(data, 4, 4) == 1024);
  CHECK(value_at(data, 8, 4) == 512);
  CHECK(value_at(data, 12, 3) == 0x081204);  // caching, WCE
  CHECK(value_at(data, 32, 3) == 0x0a0a00);  // control, D_SENSE 0
  CHECK(value_at(data, 44, 3) == 0x1c0a08);  // exceptions, disabled
  CHECK(test.initiator.in(sense6(0x3f, 4), 4).transferred_bytes == 4);
  CHECK(test.initiator.in(sense6(0x08, 4), 4).transferred_bytes == 4);
  CHECK(value_at(test.initiator.data(), 0, 1) == 4 + 8 + 20 - 1);
  CHECK(test.initiator.in(sense6(0x08, 255, 0x08), 255).transferred_bytes == 24);  // DBD
  CHECK(test.initiator.in(sense6(0x3f, 255, 0, 0xff), 255).transferred_bytes == 56);
  CHECK(field(test.initiator.in(sense6(0x3f, 255, 0, 1), 255)) == "cdb 3");
  CHECK(field(test.initiator.in(sense6(0x05), 255)) == "cdb 2.5");
}

TEST_CASE("MODE SENSE: changeable, default and saved values") {
  TestDisk test;
  CHECK(said(select(test.initiator, list6({caching_page(0), control_page(8)}))) == "good");
  const std::pair<unsigned, std::pair<uint64_t, uint64_t>> controls[] = {
      {0x00, {0x00, 0x08}}, {0x40, {0x04, 0x08}}, {0x80, {0x04, 0x00}}};
  for (const auto& [control, values] : controls) {
    CHECK(said(test.initiator.in(sense6(control | 0x08, 255, 0x08), 255)) == "good");
    CHECK(value_at(test.initiator.data(), 6, 1) == values.first);
    CHECK(said(test.initiator.in(sense6(control | 0x0a, 255, 0x08), 255)) == "good");
    CHECK(value_at(test.initiator.data(), 8, 1) == values.second);
  }
  CHECK(said(test.initiator.in(sense6(0xc0 | 0x08), 255)) == "5/39/00");
}

TEST_CASE("MODE SENSE 10: long block descriptors, write protection") {
  TestDisk test;
  CHECK(test.initiator.in(sense10(0x08), 256).transferred_bytes == 8 + 8 + 20);
  CHECK(value_at(test.initiator.data(), 0, 2) == 34);
  CHECK(value_at(test.initiator.data(), 6, 2) == 8);
  CHECK(test.initiator.in(sense10(0x08, 0x10), 256).transferred_bytes == 8 + 16 + 20);
  CHECK(value_at(test.initiator.data(), 4, 1) == 1);
  CHECK(value_at(test.initiator.data(), 6, 2) == 16);
  CHECK(value_at(test.initiator.data(), 8, 8) == 1024);
  CHECK(value_at(test.initiator.data(), 20, 4) == 512);
  test.disk.set_size((uint64_t{1} << 33) * 512);
  CHECK(said(test.initiator.in(sense10(0x08), 256)) == "good");
  CHECK(value_at(test.initiator.data(), 8, 4) == 0xffffffff);
  WatchedDisk read_only({.size_bytes = 512});
  TestInitiator initiator(test.unit, read_only);
  CHECK(said(initiator.in(sense10(0x08), 256)) == "good");
  CHECK(value_at(initiator.data(), 3, 1) == 0x90);
}

TEST_CASE("MODE SELECT switches the write cache, and flushes what it held") {
  TestDisk test;
  TestInitiator other(test.unit, test.disk, 2);
  other.settle();
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "good");
  CHECK(test.disk.durable_writes == 0);
  // As Linux does it from /sys/class/scsi_disk/…/cache_type.
  const Outcome off = select(test.initiator, list6({caching_page(0)}));
  CHECK(said(off) == "good");
  CHECK(off.transferred_bytes == 24);
  CHECK(test.disk.flushes == 1);
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "good");
  CHECK(test.disk.durable_writes == 1);
  CHECK(said(other.test_unit_ready()) == "6/2A/01");
  CHECK(said(other.test_unit_ready()) == "good");
  CHECK(said(test.initiator.test_unit_ready()) == "good");
  CHECK(said(select(test.initiator, list6({caching_page(0)}))) == "good");
  CHECK(said(other.test_unit_ready()) == "good");  // nothing has changed
  CHECK(said(select(test.initiator, list6({caching_page(4)}))) == "good");
  CHECK(test.disk.flushes == 1);
  test.disk.failing_flushes = Errc::io;
  CHECK(said(select(test.initiator, list6({caching_page(0)}))) == "3/0C/00");
}

TEST_CASE("MODE SENSE 6: Control-SWP: software write protection") {
  TestDisk test;
  CHECK(said(select(test.initiator, list6({control_page(8)}))) == "good");
  CHECK(said(test.initiator.in(sense6(0x0a), 255)) == "good");
  CHECK(value_at(test.initiator.data(), 2, 1) == 0x90);
  CHECK(value_at(test.initiator.data(), 16, 1) == 0x08);
  CHECK(said(test.initiator.read({.count = 1})) == "good");
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "7/27/00");
  CHECK(said(select(test.initiator, list6({control_page(0)}))) == "good");
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "good");
}

TEST_CASE("MODE SELECT: all of the list is right or none of it is done") {
  TestDisk test;
  Bytes not_changeable = caching_page(0);
  not_changeable[2] = std::byte{0x01};  // RCD
  Bytes short_page = caching_page(0);
  short_page[1] = std::byte{10};
  Bytes unknown = caching_page(0);
  unknown[0] = std::byte{0x07};
  Bytes descriptive_sense = control_page(0);
  descriptive_sense[2] = std::byte{0x04};
  Bytes subpage = caching_page(0);
  subpage[0] = std::byte{0x48};
  const std::pair<Bytes, const char*> wrong[] = {
      {list6({caching_page(0), not_changeable}), "data 26.0"},
      {list6({caching_page(0), short_page}), "data 25"},
      {list6({caching_page(0), unknown}), "data 24.5"},
      {list6({caching_page(0), subpage}), "data 24.5"},
      {list6({caching_page(0), descriptive_sense}), "data 26.2"},
  };
  for (const auto& [list, says] : wrong) CHECK(field(select(test.initiator, list)) == says);
  for (const size_t length : {1, 3, 5, 23, 25})
    CHECK(said(test.initiator.out(select6(unsigned(length)), Bytes(length))) ==
          (length < 4    ? "5/1A/00"
           : length == 5 ? "5/1A/00"
                         : "5/26/00"));
  Bytes cut = list6({caching_page(0)});
  cut.pop_back();
  CHECK(said(select(test.initiator, cut)) == "5/1A/00");
  CHECK(said(test.initiator.out(select6(24), Bytes(23))) == "5/1A/00");
  const Bytes good = list6({caching_page(0)});
  CHECK(field(test.initiator.out(select6(24, 0x11), good)) == "cdb 1.0");
  CHECK(field(test.initiator.out(select6(24, 0x00), good)) == "cdb 1.4");
  CHECK(said(test.initiator.none(select6(0))) == "good");
  CHECK(test.disk.flushes == 0);
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "good");
  CHECK(test.disk.cached_writes == 1);
}

TEST_CASE("MODE SELECT takes the block descriptor that MODE SENSE gave, and no other") {
  TestDisk test;
  CHECK(said(test.initiator.in(sense10(0x08, 0x10), 256)) == "good");
  Bytes list = test.initiator.data();
  list.resize(44);
  store(list, 0, 0, 2);
  const Bytes select10 = bytes_of_values({0x55, 0x10, 0, 0, 0, 0, 0, 0, 44, 0});
  CHECK(said(test.initiator.out(select10, list)) == "good");
  store(list, 8, 1023, 8);
  CHECK(field(test.initiator.out(select10, list)) == "data 8");
  store(list, 8, UINT64_MAX, 8);
  CHECK(said(test.initiator.out(select10, list)) == "good");
  store(list, 20, 4096, 4);
  CHECK(field(test.initiator.out(select10, list)) == "data 20");
  store(list, 6, 8, 2);
  CHECK(field(test.initiator.out(select10, list)) == "data 7");
}

TEST_CASE("LOG SENSE: supported pages, informational exceptions") {
  TestDisk test;
  Bytes cdb = bytes_of_values({0x4d, 0, 0x40, 0, 0, 0, 0, 0, 255, 0});
  CHECK(said(test.initiator.in(cdb, 255)) == "good");
  CHECK(value_at(test.initiator.data(), 0, 6) == 0x00000002002f);
  cdb[2] = std::byte{0x6f};
  CHECK(test.initiator.in(cdb, 255).transferred_bytes == 12);
  CHECK(value_at(test.initiator.data(), 0, 8) == 0x2f00000800000304);
  CHECK(value_at(test.initiator.data(), 8, 4) == 0);
  const std::pair<size_t, unsigned> wrong[] = {{1, 1}, {2, 0x4d}, {3, 1}, {6, 1}};
  for (const auto& [at, value] : wrong) {
    Bytes other = cdb;
    other[at] = std::byte(value);
    CHECK(said(test.initiator.in(other, 255)) == "5/24/00");
  }
}

TEST_CASE("REQUEST SENSE gives what is pending, in fixed format only") {
  TestDisk test;
  const Bytes cdb = bytes_of_values({0x03, 0, 0, 0, 252, 0});
  CHECK(test.initiator.in(cdb, 252).transferred_bytes == 18);
  CHECK(value_at(test.initiator.data(), 0, 3) == 0x700000);
  test.unit.capacity_changed();
  CHECK(said(test.initiator.in(cdb, 252)) == "good");
  CHECK(value_at(test.initiator.data(), 2, 1) == 6);
  CHECK(value_at(test.initiator.data(), 12, 2) == 0x2a09);
  CHECK(said(test.initiator.test_unit_ready()) == "good");
  CHECK(field(test.initiator.in(bytes_of_values({0x03, 1, 0, 0, 252, 0}), 252)) == "cdb 1.0");
}

TEST_CASE("SEND DIAGNOSTIC: the default self-test passes, others are not known") {
  TestDisk test;
  CHECK(said(test.initiator.none(bytes_of_values({0x1d, 0x04, 0, 0, 0, 0}))) == "good");
  CHECK(said(test.initiator.none(bytes_of_values({0x1d, 0x00, 0, 0, 0, 0}))) == "good");
  CHECK(field(test.initiator.none(bytes_of_values({0x1d, 0x20, 0, 0, 0, 0}))) == "cdb 1.7");
  CHECK(field(test.initiator.none(bytes_of_values({0x1d, 0x10, 0, 0, 4, 0}))) == "cdb 3");
}

TEST_CASE("PREFETCH 10, 16: Simple, BeyondEol, ZeroBlocks, Flags") {
  TestDisk test;
  for (const uint8_t opcode : {uint8_t{0x34}, uint8_t{0x90}}) {
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1023, .count = 1}))) == "good");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1024}))) == "good");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.count = 1, .flags = 2}))) == "good");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1023, .count = 2}))) == "5/21/00");
    CHECK(said(test.initiator.none(block_cdb(opcode, {.lba = 1025}))) == "5/21/00");
  }
}

}  // namespace
}  // namespace vhdkit::scsi
