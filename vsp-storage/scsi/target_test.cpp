#include "vsp-storage/scsi/target.h"

#include "tests/support/await.h"
#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

// Sends to an address without a unit.
struct Absent {
  const Target& target;
  Address address{.path = 0, .target = 0, .lun = 5};
  Bytes data;

  Outcome in(const Bytes& cdb, size_t size) {
    data = Bytes(size, std::byte{0xa5});
    const iovec vector{data.data(), data.size()};
    const Command command{
        .cdb = cdb, .direction = Direction::from_device, .data = Buffers(&vector, 1)};
    return target.execute_absent(address, command);
  }
};

Bytes report_luns(unsigned select = 0, unsigned allocation_length = 4096) {
  return bytes_of_values(
      {0xa0, 0, select, 0, 0, 0, 0, 0, allocation_length >> 8, allocation_length & 0xff, 0, 0});
}

std::vector<uint64_t> luns_in(const Bytes& data) {
  std::vector<uint64_t> luns;
  for (size_t at = 8; at < 8 + value_at(data, 0, 4); at += 8) {
    CHECK((value_at(data, at, 8) & 0xff00ffffffffffff) == 0);
    luns.push_back(value_at(data, at + 1, 1));
  }
  return luns;
}

std::shared_ptr<DiskUnit> new_unit() {
  return std::make_shared<DiskUnit>(TestDisk::default_options());
}

TEST_CASE("absent units answer as a Linux guest's scan wants it") {
  Target target;
  Absent absent{target, {}, {}};
  // INQUIRY must not fail, and says that nothing is there.
  CHECK(absent.in(bytes_of_values({0x12, 0, 0, 0, 36, 0}), 36).transferred_bytes == 36);
  CHECK(value_at(absent.data, 0, 1) == 0x7f);
  CHECK(value_at(absent.data, 4, 1) == 31);
  CHECK(field(absent.in(bytes_of_values({0x12, 1, 0, 0, 36, 0}), 36)) == "cdb 1.0");
  CHECK(field(absent.in(bytes_of_values({0x12, 0, 9, 0, 36, 0}), 36)) == "cdb 2");
  CHECK(absent.in(report_luns(), 4096).transferred_bytes == 8);
  CHECK(luns_in(absent.data).empty());
  CHECK(absent.in(bytes_of_values({0x03, 0, 0, 0, 252, 0}), 252).transferred_bytes == 18);
  CHECK(value_at(absent.data, 2, 1) == 5);
  CHECK(value_at(absent.data, 12, 2) == 0x2500);
  for (const unsigned opcode : {0x00U, 0x28U, 0x2aU, 0x5aU, 0xffU})
    CHECK(said(absent.in(Bytes(16, std::byte(opcode)), 512)) == "5/25/00");
  CHECK(said(absent.in({}, 512)) == "5/25/00");
}

TEST_CASE("LUNs come and go, and REPORT LUNS says which there are") {
  Target target;
  Absent absent{target, {}, {}};
  const uint64_t generation = target.generation();
  for (const uint8_t lun : {uint8_t{3}, uint8_t{0}, uint8_t{63}})
    REQUIRE_OK(target.attach(lun, new_unit()));
  CHECK(target.generation() != generation);
  REQUIRE_FAILS(Errc::exists, "LUN 3", target.attach(3, new_unit()));
  REQUIRE_FAILS(Errc::invalid_argument, "LUN 64", target.attach(64, new_unit()));
  CHECK(absent.in(report_luns(), 4096).transferred_bytes == 32);
  CHECK(luns_in(absent.data) == std::vector<uint64_t>{0, 3, 63});
  CHECK(absent.in(report_luns(2), 4096).transferred_bytes == 32);
  CHECK(absent.in(report_luns(1), 4096).transferred_bytes == 8);
  CHECK(field(absent.in(report_luns(3), 4096)) == "cdb 2");
  CHECK(absent.in(report_luns(0, 12), 4096).transferred_bytes == 12);
  CHECK(value_at(absent.data, 0, 4) == 24);
  // Other paths and targets have none.
  for (const Address& address : {Address{1, 0, 0}, Address{0, 1, 3}}) {
    absent.address = address;
    CHECK(absent.in(report_luns(), 4096).transferred_bytes == 8);
  }
  REQUIRE_OK(target.detach(3));
  REQUIRE_FAILS(Errc::not_found, "LUN 3", target.detach(3));
  REQUIRE_FAILS(Errc::not_found, "LUN 200", target.detach(200));
  CHECK(target.find(3) == nullptr);
  CHECK(target.find(200) == nullptr);
  CHECK(target.find(63) != nullptr);
}

TEST_CASE("units of changed targets say so until somebody asks which LUNs there are") {
  Target target;
  WatchedDisk disk({.size_bytes = 1024 * 512, .read_only = false});
  const auto first = new_unit(), second = new_unit();
  REQUIRE_OK(target.attach(0, first));
  TestInitiator initiator(*first, disk), other(*first, disk, 2), through_second(*second, disk);
  initiator.settle();
  other.settle();
  REQUIRE_OK(target.attach(1, second));
  through_second.settle();
  CHECK(said(initiator.test_unit_ready()) == "6/3F/0E");
  CHECK(said(initiator.test_unit_ready()) == "good");
  REQUIRE_OK(target.detach(1));
  CHECK(said(through_second.test_unit_ready()) == "good");  // it is the one that has gone
  // REPORT LUNS through the unit itself: told herewith, for this initiator.
  CHECK(said(initiator.in(report_luns(), 4096)) == "good");
  CHECK(luns_in(initiator.data()) == std::vector<uint64_t>{0});
  CHECK(said(initiator.test_unit_ready()) == "good");
  CHECK(said(other.test_unit_ready()) == "6/3F/0E");
}

TEST_CASE("a detached unit lives while somebody uses it") {
  Target target;
  WatchedDisk disk({.size_bytes = 1024 * 512, .read_only = false});
  REQUIRE_OK(target.attach(7, new_unit()));
  const std::shared_ptr<LogicalUnit> held = target.find(7);
  REQUIRE_OK(target.detach(7));
  TestInitiator initiator(*held, disk);
  initiator.settle();
  CHECK(said(initiator.read({.count = 1})) == "good");
  CHECK(held.use_count() == 1);
}

TEST_CASE("a unit outlives its target") {
  WatchedDisk disk({.size_bytes = 1024 * 512, .read_only = false});
  const auto unit = new_unit();
  {
    Target target;
    REQUIRE_OK(target.attach(7, unit));
  }
  TestInitiator initiator(*unit, disk);
  CHECK(said(initiator.in(report_luns(), 4096)) == "good");
  CHECK(luns_in(initiator.data()) == std::vector<uint64_t>{0});
}

}  // namespace
}  // namespace vhdkit::scsi
