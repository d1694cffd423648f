#include "vsp-storage/scsi/disk_unit.h"

#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

Bytes start_stop(unsigned byte4) { return bytes_of_values({0x1b, 0, 0, 0, byte4, 0}); }
Bytes prevent(unsigned value) { return bytes_of_values({0x1e, 0, 0, 0, value, 0}); }
constexpr unsigned start = 1, load_or_eject = 2, no_flush = 4;

DiskUnitOptions removable() {
  DiskUnitOptions options;
  options.is_removable = true;
  return options;
}

TEST_CASE("TEST UNIT READY: Simple; every initiator is told of power on once") {
  TestDisk test;
  for (const uint64_t number : {uint64_t{1}, uint64_t{99}, UINT64_MAX}) {
    TestInitiator initiator(test.unit, test.disk, number);
    // These do not tell it, and are done.
    CHECK(said(initiator.in(bytes_of_values({0x12, 0, 0, 0, 36, 0}), 36)) == "good");
    CHECK(said(initiator.in(bytes_of_values({0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0}), 16)) ==
          "good");
    CHECK(said(initiator.test_unit_ready()) == "6/29/00");
    CHECK(said(initiator.test_unit_ready()) == "good");
  }
}

TEST_CASE("a reset is told to everybody and gives up what does not last") {
  TestDisk test;
  TestInitiator other(test.unit, test.disk, 2);
  other.settle();
  CHECK(said(other.none(bytes_of_values({0x16, 0, 0, 0, 0, 0}))) == "good");
  CHECK(said(test.initiator.read({.count = 1})) == "conflict");
  const Bytes protect = bytes_of_values({0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0x08, 0, 0, 0, 0, 0, 0, 0});
  CHECK(said(other.out(bytes_of_values({0x15, 0x10, 0, 0, 16, 0}), protect)) == "good");
  test.unit.reset();
  CHECK(said(test.initiator.test_unit_ready()) == "6/29/03");
  CHECK(said(test.initiator.test_unit_ready()) == "6/2A/01");
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "good");
  CHECK(said(other.test_unit_ready()) == "6/29/03");
}

TEST_CASE("after its power was off a unit is as at first, and says so once") {
  TestDisk test(removable());
  TestInitiator other(test.unit, test.disk, 2);
  other.settle();
  const Bytes protect = bytes_of_values({0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0x08, 0, 0, 0, 0, 0, 0, 0});
  const Bytes cache_off =
      bytes_of_values({0, 0, 0, 0, 0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  const auto select = [&](const Bytes& pages) {
    return said(other.out(bytes_of_values({0x15, 0x10, 0, 0, unsigned(pages.size()), 0}), pages));
  };
  CHECK(select(cache_off) == "good");
  CHECK(select(protect) == "good");
  CHECK(said(other.none(prevent(1))) == "good");
  CHECK(said(other.none(bytes_of_values({0x16, 0, 0, 0, 0, 0}))) == "good");
  CHECK(said(other.none(start_stop(0))) == "good");
  test.unit.power_on();
  CHECK(said(test.initiator.test_unit_ready()) == "6/29/00");
  CHECK(said(test.initiator.test_unit_ready()) == "good");
  CHECK(said(other.test_unit_ready()) == "6/29/00");
  CHECK(said(other.test_unit_ready()) == "good");
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "good");
  CHECK(test.disk.cached_writes == 1);
  CHECK(test.disk.durable_writes == 0);
  CHECK(said(test.initiator.none(start_stop(load_or_eject))) == "good");
}

TEST_CASE("another capacity is told to everybody, and holds at once") {
  TestDisk test;
  test.disk.set_size(512 * 512);
  test.unit.capacity_changed();
  CHECK(said(test.initiator.read({.lba = 600, .count = 1})) == "6/2A/09");
  CHECK(said(test.initiator.read({.lba = 600, .count = 1})) == "5/21/00");
  CHECK(said(test.initiator.read({.lba = 511, .count = 1})) == "good");
}

TEST_CASE("attentions are told one by one, the weightiest first") {
  TestDisk test;
  UnitAttentions& attentions = test.unit.attentions();
  for (const Attention each : {Attention::luns_changed, Attention::mode_changed,
                               Attention::registrations_preempted, Attention::medium_changed,
                               Attention::reservations_released, Attention::reservations_preempted,
                               Attention::capacity_changed, Attention::reset, Attention::reset})
    attentions.establish(each);
  for (const char* const says : {"6/29/03", "6/28/00", "6/2A/09", "6/2A/01", "6/2A/03", "6/2A/04",
                                 "6/2A/05", "6/3F/0E", "good"})
    CHECK(said(test.initiator.test_unit_ready()) == says);
}

TEST_CASE("initiators beyond the bound are served without attentions") {
  TestDisk test;
  for (uint64_t number = 1; number < 200; ++number) {
    TestInitiator initiator(test.unit, test.disk, number);
    CHECK(said(initiator.test_unit_ready()) ==
          (number < UnitAttentions::max_initiators ? "6/29/00" : "good"));
    CHECK(said(initiator.test_unit_ready()) == "good");
  }
}

TEST_CASE("SYNCHRONIZE CACHE flushes, whatever the range") {
  TestDisk test;
  CHECK(said(test.initiator.none(cdb10(0x35, {}))) == "good");  // as Linux sends it
  CHECK(said(test.initiator.none(cdb10(0x35, {.lba = 5, .count = 3, .flags = 2}))) == "good");
  CHECK(said(test.initiator.none(cdb16(0x91, {.lba = 1024}))) == "good");
  CHECK(test.disk.flushes == 3);
  CHECK(said(test.initiator.none(cdb10(0x35, {.lba = 1023, .count = 2}))) == "5/21/00");
  CHECK(said(test.initiator.none(cdb16(0x91, {.lba = UINT64_MAX}))) == "5/21/00");
  CHECK(test.disk.flushes == 3);
}

TEST_CASE("START STOP UNIT: a stopped disk is not ready until it is started") {
  TestDisk test;
  CHECK(said(test.initiator.none(start_stop(0))) == "good");
  CHECK(test.disk.flushes == 1);
  for (const char* const says : {"2/04/02", "2/04/02"})
    CHECK(said(test.initiator.test_unit_ready()) == says);
  CHECK(said(test.initiator.read({.count = 1})) == "2/04/02");
  CHECK(said(test.initiator.write({.count = 1}, test.blocks(1, 1))) == "2/04/02");
  CHECK(said(test.initiator.none(cdb10(0x35, {}))) == "2/04/02");
  CHECK(said(test.initiator.in(bytes_of_values({0x03, 0, 0, 0, 18, 0}), 18)) == "good");
  CHECK(value_at(test.initiator.data(), 12, 2) == 0x0402);
  CHECK(said(test.initiator.in(bytes_of_values({0x12, 0, 0, 0, 36, 0}), 36)) == "good");
  CHECK(said(test.initiator.in(bytes_of_values({0x1a, 0, 8, 0, 255, 0}), 255)) == "good");
  CHECK(said(test.initiator.none(start_stop(start))) == "good");
  CHECK(said(test.initiator.test_unit_ready()) == "good");
  CHECK(said(test.initiator.none(start_stop(no_flush))) == "good");
  CHECK(test.disk.flushes == 1);
  CHECK(said(test.initiator.none(start_stop(start))) == "good");
  CHECK(field(test.initiator.none(start_stop(load_or_eject))) == "cdb 4.1");
  test.disk.failing_flushes = Errc::io;
  CHECK(said(test.initiator.none(start_stop(0))) == "3/0C/00");
  CHECK(said(test.initiator.test_unit_ready()) == "good");
}

TEST_CASE("START STOP UNIT: Simple, PwrCnd, NoLoej: a removable disk") {
  TestDisk test(removable());
  for (unsigned condition = 1; condition < 16; ++condition) {
    CHECK(said(test.initiator.none(start_stop(condition << 4 | load_or_eject))) == "good");
    CHECK(said(test.initiator.test_unit_ready()) == "good");
  }
  for (const unsigned flags : {0U, start, no_flush, no_flush | start}) {
    CHECK(said(test.initiator.none(start_stop(flags))) == "good");
    CHECK(said(test.initiator.test_unit_ready()) == "good");
  }
  CHECK(said(test.initiator.none(start_stop(load_or_eject))) == "good");
  CHECK(said(test.initiator.test_unit_ready()) == "2/3A/00");
  CHECK(said(test.initiator.none(start_stop(start))) == "2/3A/00");
  CHECK(said(test.initiator.none(start_stop(start | load_or_eject))) == "good");
  CHECK(said(test.initiator.test_unit_ready()) == "good");
}

TEST_CASE("NoMediaSBC: nothing touches an ejected medium") {
  TestDisk test(removable());
  CHECK(said(test.initiator.none(start_stop(load_or_eject))) == "good");
  for (const unsigned opcode :
       {0x28U, 0xa8U, 0x88U, 0x2fU, 0xafU, 0x8fU, 0x35U, 0x91U, 0x34U, 0x90U, 0x25U})
    CHECK(said(test.initiator.none(block_cdb(uint8_t(opcode), {.count = 1}))) == "2/3A/00");
  for (const unsigned opcode : {0x2aU, 0xaaU, 0x8aU, 0x2eU, 0xaeU, 0x8eU, 0x41U, 0x93U, 0x89U})
    CHECK(said(test.initiator.out(block_cdb(uint8_t(opcode), {.count = 1}), test.blocks(1, 0))) ==
          "2/3A/00");
  for (const uint8_t action : {uint8_t{0x10}, uint8_t{0x12}})
    CHECK(said(test.initiator.in(cdb16(0x9e, {.count = 32, .flags = action}), 32)) == "2/3A/00");
}

TEST_CASE("PREVENT ALLOW: Simple, Eject, LUNReset, 2ITNexuses") {
  TestDisk test(removable());
  TestInitiator other(test.unit, test.disk, 2);
  other.settle();
  CHECK(said(test.initiator.none(prevent(1))) == "good");
  CHECK(said(other.none(start_stop(load_or_eject))) == "5/53/02");
  CHECK(said(other.none(prevent(0))) == "good");  // its own, which there was not
  CHECK(said(other.none(start_stop(load_or_eject))) == "5/53/02");
  CHECK(said(test.initiator.none(prevent(0))) == "good");
  CHECK(said(other.none(start_stop(load_or_eject))) == "good");
  CHECK(said(test.initiator.none(prevent(1))) == "good");
  CHECK(said(other.none(start_stop(start | load_or_eject))) == "5/53/02");
  test.unit.reset();
  other.settle();
  CHECK(said(other.none(start_stop(start | load_or_eject))) == "good");
  test.initiator.settle();
  CHECK(field(test.initiator.none(prevent(2))) == "cdb 4.1");
}

TEST_CASE("the CDB itself: unknown, empty, too short, with NACA") {
  TestDisk test;
  for (const unsigned opcode : {0x04U, 0x2bU, 0x3cU, 0x7fU, 0x83U, 0xffU})
    CHECK(said(test.initiator.none(Bytes(16, std::byte(opcode)))) == "5/20/00");
  CHECK(field(test.initiator.none({})) == "cdb 0");
  CHECK(field(test.initiator.in(bytes_of_values({0x28, 0, 0, 0, 0, 0}), 512)) == "cdb 6");
  CHECK(field(test.initiator.in(Bytes(15, std::byte{0x88}), 512)) == "cdb 15");
  CHECK(field(test.initiator.none(bytes_of_values({0, 0, 0, 0, 0, 4}))) == "cdb 5.2");
  CHECK(field(test.initiator.in(bytes_of_values({0x12, 0, 0, 0, 36, 4}), 36)) == "cdb 5.2");
  // Longer than the command: the rest is not looked at.
  CHECK(said(test.initiator.none(Bytes(16))) == "good");
}

TEST_CASE("a unit that stands alone lists LUN 0") {
  TestDisk test;
  const Bytes cdb = bytes_of_values({0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0});
  CHECK(test.initiator.in(cdb, 4096).transferred_bytes == 16);
  CHECK(value_at(test.initiator.data(), 0, 8) == uint64_t{8} << 32);
  CHECK(value_at(test.initiator.data(), 8, 8) == 0);
}

}  // namespace
}  // namespace vhdkit::scsi
