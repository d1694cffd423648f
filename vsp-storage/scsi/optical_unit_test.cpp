#include "vsp-storage/scsi/optical_unit.h"

#include "tests/support/await.h"
#include "tests/support/content.h"
#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

constexpr uint64_t blocks = 300;

// A drive with a medium of 300 blocks, past its attentions.
struct Drive {
  Drive() : disk({.size_bytes = blocks * 2048 + 512}), unit(OpticalUnitOptions()) {
    content = tests::random_bytes(blocks * 2048, 3);
    REQUIRE_OK(tests::await(disk.ram().write(0, content)));
    REQUIRE_OK(unit.insert(disk.geometry()));
    initiator.settle();
  }
  Bytes answer(const Bytes& cdb, size_t size = 4096) {
    const Outcome outcome = initiator.in(cdb, size);
    REQUIRE(said(outcome) == "good");
    Bytes data = initiator.data();
    data.resize(outcome.transferred_bytes);
    return data;
  }
  std::string start_stop(unsigned byte4) {
    return said(initiator.none(bytes_of_values({0x1b, 0, 0, 0, byte4, 0})));
  }

  WatchedDisk disk;
  OpticalUnit unit;
  TestInitiator initiator{unit, disk};
  Bytes content;
};
constexpr unsigned eject = 2, load = 3;

// CDBs of ten bytes whose allocation length is in bytes 7 and 8.
Bytes ten(unsigned opcode, unsigned byte1 = 0, unsigned byte2 = 0, unsigned byte6 = 0) {
  return bytes_of_values({opcode, byte1, byte2, 0, 0, 0, byte6, 0x10, 0, 0});
}
Bytes event_status() { return bytes_of_values({0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0}); }

TEST_CASE("an optical unit is a removable CD/DVD drive") {
  Drive drive;
  const Bytes standard = drive.answer(bytes_of_values({0x12, 0, 0, 0, 96, 0}));
  CHECK(value_at(standard, 0, 2) == 0x0580);
  CHECK(text_at(standard, 8, 28) == "Msft    Virtual DVD-ROM 1.0 ");
  CHECK(value_at(standard, 62, 2) == 0x04e0);
  CHECK(value_at(drive.answer(bytes_of_values({0x12, 1, 0, 0, 96, 0})), 0, 6) == 0x050000020083);
  CHECK(drive.answer(bytes_of_values({0x12, 1, 0x83, 0, 96, 0})).size() == 52);
  CHECK(field(drive.initiator.in(bytes_of_values({0x12, 1, 0x80, 0, 96, 0}), 96)) == "cdb 2");
}

TEST_CASE("READ 10, 12, 16 in blocks of 2048") {
  Drive drive;
  CHECK(value_at(drive.answer(cdb10(0x25, {})), 0, 8) == ((blocks - 1) << 32 | 2048));
  for (const uint8_t opcode : {uint8_t{0x28}, uint8_t{0xa8}, uint8_t{0x88}}) {
    const Blocks some{.lba = 20, .count = 33};
    CHECK(drive.answer(block_cdb(opcode, some), 33 * 2048) ==
          Bytes(drive.content.begin() + 20 * 2048, drive.content.begin() + 53 * 2048));
    CHECK(said(drive.initiator.in(block_cdb(opcode, {.lba = 299, .count = 2}), 4096)) == "5/21/00");
    CHECK(said(drive.initiator.in(block_cdb(opcode, {.lba = 300, .count = 1}), 2048)) == "5/21/00");
    const Outcome shorter = drive.initiator.in(block_cdb(opcode, some), 5000);
    CHECK(said(shorter) == "overrun");
    CHECK(shorter.transferred_bytes == 4096);
    const Outcome longer = drive.initiator.in(block_cdb(opcode, {.count = 1}), 5000);
    CHECK(said(longer) == "good");
    CHECK(longer.transferred_bytes == 2048);
    CHECK(said(drive.initiator.none(block_cdb(opcode, {}))) == "good");
  }
  drive.disk.failing_reads = Errc::io;
  CHECK(said(drive.initiator.in(cdb10(0x28, {.count = 1}), 2048)) == "3/11/00");
  for (const unsigned opcode : {0x2aU, 0xaaU, 0x8aU, 0x04U, 0x35U, 0x08U, 0x15U})
    CHECK(said(drive.initiator.out(Bytes(16, std::byte(opcode)), Bytes(2048))) == "5/20/00");
}

TEST_CASE("READ TOC: one data track in one session") {
  Drive drive;
  CHECK(drive.answer(ten(0x43)) ==
        bytes_of_values({0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 1, 44}));
  // 300 + 150 frames are 6 seconds.
  CHECK(drive.answer(ten(0x43, 2)) ==
        bytes_of_values({0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x14, 0xaa, 0, 0, 0, 6, 0}));
  CHECK(drive.answer(ten(0x43, 0, 0, 0xaa)) ==
        bytes_of_values({0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 1, 44}));
  CHECK(drive.answer(ten(0x43, 0, 1)) == bytes_of_values({0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0}));
  Bytes old_style = ten(0x43);
  old_style[9] = std::byte{0x40};
  CHECK(drive.answer(old_style).size() == 12);
  const Bytes raw = drive.answer(ten(0x43, 2, 2));
  CHECK(raw.size() == 4 + 4 * 11);
  CHECK(value_at(raw, 0, 2) == 46);
  CHECK(Bytes(raw.begin() + 4 + 22, raw.begin() + 4 + 33) ==
        bytes_of_values({1, 0x14, 0, 0xa2, 0, 0, 0, 0, 0, 6, 0}));
  CHECK(field(drive.initiator.in(ten(0x43, 0, 0, 2), 99)) == "cdb 6");
  CHECK(field(drive.initiator.in(ten(0x43, 0, 5), 99)) == "cdb 2.3");
}

TEST_CASE("GET CONFIGURATION: a DVD-ROM is current with a medium only") {
  Drive drive;
  const Bytes all = drive.answer(ten(0x46));
  CHECK(value_at(all, 0, 4) == all.size() - 4);
  CHECK(value_at(all, 6, 2) == 0x0010);
  std::vector<uint64_t> features;
  for (size_t at = 8; at < all.size(); at += 4 + value_at(all, at + 3, 1))
    features.push_back(value_at(all, at, 2));
  CHECK(features == std::vector<uint64_t>{0, 1, 2, 3, 0x10, 0x1f, 0x100, 0x105});
  Bytes one = ten(0x46, 2);
  one[3] = std::byte{0x10};
  CHECK(value_at(drive.answer(one), 8, 8) == 0x0010010800000800);
  drive.unit.eject();
  CHECK(value_at(drive.answer(ten(0x46)), 6, 2) == 0);
  CHECK(value_at(drive.answer(one), 8, 4) == 0x00100008);
  CHECK(drive.answer(ten(0x46, 1)).size() < all.size());
  CHECK(field(drive.initiator.in(ten(0x46, 3), 99)) == "cdb 1.1");
}

TEST_CASE("GET EVENT STATUS tells a new and a removed medium once each") {
  Drive drive;
  CHECK(drive.answer(event_status()) == bytes_of_values({0, 6, 4, 0x10, 2, 2, 0, 0}));
  CHECK(drive.answer(event_status()) == bytes_of_values({0, 6, 4, 0x10, 0, 2, 0, 0}));
  drive.unit.request_eject();
  // A host that does not take the event leaves it there.
  Bytes head = event_status();
  head[8] = std::byte{4};
  CHECK(drive.answer(head) == bytes_of_values({0, 6, 4, 0x10}));
  CHECK(drive.answer(event_status()) == bytes_of_values({0, 6, 4, 0x10, 1, 2, 0, 0}));
  CHECK(drive.start_stop(eject) == "good");
  CHECK(drive.answer(event_status()) == bytes_of_values({0, 6, 4, 0x10, 3, 1, 0, 0}));
  CHECK(drive.start_stop(load) == "good");
  CHECK(drive.answer(event_status()) == bytes_of_values({0, 6, 4, 0x10, 2, 2, 0, 0}));
  Bytes other_class = event_status();
  other_class[4] = std::byte{0x02};
  CHECK(drive.answer(other_class) == bytes_of_values({0, 2, 0x80, 0x10}));
  Bytes asynchronous = event_status();
  asynchronous[1] = std::byte{0};
  CHECK(field(drive.initiator.in(asynchronous, 8)) == "cdb 1.0");
}

TEST_CASE("media come and go; without one nothing is read") {
  WatchedDisk none({.size_bytes = 0});
  OpticalUnit unit((OpticalUnitOptions()));
  TestInitiator initiator(unit, none);
  CHECK(said(initiator.test_unit_ready()) == "6/29/00");
  CHECK(said(initiator.test_unit_ready()) == "2/3A/01");
  for (const unsigned opcode : {0x25U, 0x28U, 0x43U, 0x51U, 0x52U, 0x88U, 0xa8U, 0xadU})
    CHECK(said(initiator.in(block_cdb(uint8_t(opcode), {.count = 1}), 2048)) == "2/3A/01");
  CHECK(said(initiator.in(bytes_of_values({0x03, 0, 0, 0, 18, 0}), 18)) == "good");
  CHECK(value_at(initiator.data(), 12, 2) == 0x3a01);
  CHECK(none.reads == 0);
  REQUIRE_FAILS(Errc::invalid_argument, "no whole block", unit.insert(none.geometry()));
  REQUIRE_FAILS(Errc::invalid_argument, "4096 bytes are larger",
                unit.insert({.size_bytes = 8192, .logical_sector_bytes = 4096}));
  REQUIRE_OK(unit.insert({.size_bytes = 8192}));
  CHECK(unit.has_medium());
  CHECK(said(initiator.test_unit_ready()) == "6/28/00");
  CHECK(said(initiator.test_unit_ready()) == "good");
  // The disk is another one than was said: nothing outside is read.
  CHECK(said(initiator.in(cdb10(0x28, {.count = 1}), 2048)) == "5/21/00");
  unit.eject();
  CHECK(said(initiator.test_unit_ready()) == "2/3A/01");
}

TEST_CASE("a guest ejects and loads, unless the medium is locked") {
  Drive drive;
  CHECK(drive.start_stop(0) == "good");
  CHECK(drive.start_stop(1) == "good");
  CHECK(said(drive.initiator.test_unit_ready()) == "good");
  CHECK(said(drive.initiator.none(bytes_of_values({0x1e, 0, 0, 0, 1, 0}))) == "good");
  CHECK(drive.start_stop(eject) == "5/53/02");
  CHECK(value_at(drive.answer(bytes_of_values({0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 99, 0})), 14, 1) ==
        0x2b);
  CHECK(said(drive.initiator.none(bytes_of_values({0x1e, 0, 0, 0, 0, 0}))) == "good");
  CHECK(drive.start_stop(eject) == "good");
  CHECK_FALSE(drive.unit.has_medium());
  CHECK(said(drive.initiator.test_unit_ready()) == "2/3A/02");
  CHECK(value_at(drive.answer(bytes_of_values({0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0})), 0, 8) ==
        0x0010000000010000);
  CHECK(drive.start_stop(load) == "good");
  CHECK(said(drive.initiator.test_unit_ready()) == "6/28/00");
  CHECK(said(drive.initiator.test_unit_ready()) == "good");
  // The host is not kept from it.
  CHECK(said(drive.initiator.none(bytes_of_values({0x1e, 0, 0, 0, 1, 0}))) == "good");
  drive.unit.eject();
  CHECK(said(drive.initiator.test_unit_ready()) == "2/3A/01");
}

TEST_CASE("MODE SENSE: capabilities, as Linux's sr reads them") {
  Drive drive;
  const Bytes page = drive.answer(bytes_of_values({0x1a, 0, 0x2a, 0, 128, 0}));
  CHECK(page.size() == 4 + 22);
  CHECK(value_at(page, 3, 1) == 0);                  // no block descriptor
  CHECK((value_at(page, 4 + 2, 1) & 0x08) != 0);     // reads DVD-ROM
  CHECK(value_at(page, 4 + 3, 1) == 0);              // writes nothing
  CHECK((value_at(page, 4 + 6, 1) & 0xe0) == 0x20);  // a tray
  CHECK((value_at(page, 4 + 6, 1) & 0x09) == 9);     // locks, ejects
  CHECK(drive.answer(bytes_of_values({0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255, 0})).size() ==
        8 + 12 + 22);
  CHECK(field(drive.initiator.in(bytes_of_values({0x1a, 0, 0x08, 0, 128, 0}), 128)) == "cdb 2.5");
}

TEST_CASE("READ DISC, TRACK INFORMATION and DISC STRUCTURE of a closed disc") {
  Drive drive;
  const Bytes disc = drive.answer(ten(0x51));
  CHECK(disc.size() == 34);
  CHECK(value_at(disc, 0, 8) == 0x00200e0101010120);
  CHECK(field(drive.initiator.in(ten(0x51, 1), 99)) == "cdb 1.2");
  Bytes by_track = ten(0x52, 1);
  by_track[5] = std::byte{1};
  const Bytes track = drive.answer(by_track);
  CHECK(track.size() == 36);
  CHECK(value_at(track, 0, 8) == 0x0022010100040100);
  CHECK(value_at(track, 24, 4) == blocks);
  by_track[5] = std::byte{2};
  CHECK(field(drive.initiator.in(by_track, 99)) == "cdb 2");
  Bytes by_block = ten(0x52);
  store(by_block, 2, blocks, 4);
  CHECK(said(drive.initiator.in(by_block, 99)) == "5/21/00");
  Bytes structure = bytes_of_values({0xad, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0});
  const Bytes physical = drive.answer(structure);
  CHECK(physical.size() == 2052);
  CHECK(value_at(physical, 0, 2) == 2050);
  CHECK(value_at(physical, 8, 8) == 0x0003000000030000 + blocks - 1);
  structure[7] = std::byte{1};
  CHECK(drive.answer(structure).size() == 8);
  structure[7] = std::byte{4};
  CHECK(field(drive.initiator.in(structure, 99)) == "cdb 7");
  CHECK(said(drive.initiator.none(
            bytes_of_values({0xbb, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}))) == "good");
}

TEST_CASE("the drive lists its operations and its LUN, and tells a reset") {
  Drive drive;
  const Bytes all = drive.answer(bytes_of_values({0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0}));
  CHECK(all.size() == 4 + 8 * optical_operations().size());
  CHECK(drive.answer(bytes_of_values({0xa0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0})).size() == 16);
  drive.unit.reset();
  CHECK(said(drive.initiator.test_unit_ready()) == "6/29/03");
}

}  // namespace
}  // namespace vhdkit::scsi
