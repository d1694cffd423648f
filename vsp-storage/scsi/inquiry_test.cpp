#include "vsp-storage/scsi/inquiry.h"

#include "vsp-storage/scsi/test_initiator.h"

namespace vhdkit::scsi {
namespace {

Bytes inquiry(unsigned allocation_length) {
  return bytes_of_values({0x12, 0, 0, allocation_length >> 8, allocation_length & 0xff, 0});
}
Bytes vpd(unsigned page, unsigned allocation_length = 255) {
  return bytes_of_values({0x12, 1, page, allocation_length >> 8, allocation_length & 0xff, 0});
}

DiskUnitOptions identified() {
  DiskUnitOptions options = TestDisk::default_options();
  for (size_t i = 0; i < 16; ++i) options.identifier[i] = std::byte(0x10 + i);
  return options;
}

// The page's bytes; its length field is right and it says which page it is.
Bytes page_of(TestDisk& test, unsigned page) {
  const Outcome outcome = test.initiator.in(vpd(page), 255);
  CAPTURE(page);
  REQUIRE(said(outcome) == "good");
  Bytes data = test.initiator.data();
  data.resize(outcome.transferred_bytes);
  CHECK(value_at(data, 0, 1) == 0);
  CHECK(value_at(data, 1, 1) == page);
  CHECK(value_at(data, 2, 2) + 4 == data.size());
  return data;
}

TEST_CASE("INQUIRY: Standard, VersionDescriptors") {
  TestDisk test;
  const Outcome outcome = test.initiator.in(inquiry(260), 260);
  CHECK(said(outcome) == "good");
  CHECK(outcome.transferred_bytes == 74);
  const Bytes& data = test.initiator.data();
  CHECK(value_at(data, 0, 1) == 0x00);  // a disk is connected
  CHECK(value_at(data, 1, 1) == 0x00);
  CHECK(value_at(data, 2, 1) == 0x06);        // SPC-4
  CHECK((value_at(data, 3, 1) & 0x0f) == 2);  // response data format
  CHECK(value_at(data, 4, 1) == 74 - 5);      // additional length
  CHECK((value_at(data, 7, 1) & 0x02) != 0);  // CMDQUE
  CHECK(text_at(data, 8, 28) == "Msft    Virtual Disk    1.0 ");
  CHECK(value_at(data, 58, 2) == 0x00a0);
  CHECK(value_at(data, 60, 2) == 0x0460);
  CHECK(value_at(data, 62, 2) == 0x04c0);
  CHECK(value_at(data, 64, 8) == 0);
}

TEST_CASE("INQUIRY: AllocLength") {
  TestDisk test;
  for (const unsigned length : {0U, 5U, 36U, 73U, 74U, 255U, 511U, 512U, 0xffffU}) {
    CAPTURE(length);
    const Outcome outcome = test.initiator.in(inquiry(length), 600);
    CHECK(said(outcome) == "good");
    CHECK(outcome.transferred_bytes == std::min(length, 74U));
  }
  // A transport that brings less than the allocation length gets an overrun.
  CHECK(said(test.initiator.in(inquiry(74), 36)) == "overrun");
  CHECK(said(test.initiator.in(inquiry(36), 36)) == "good");
}

TEST_CASE("INQUIRY: EVPD: a page code without EVPD, and a page that there is not") {
  TestDisk test;
  const Outcome no_evpd = test.initiator.in(bytes_of_values({0x12, 0, 0x83, 0, 255, 0}), 255);
  CHECK(said(no_evpd) == "5/24/00");
  CHECK(field(no_evpd) == "cdb 2");
  CHECK(field(test.initiator.in(bytes_of_values({0x12, 2, 0, 0, 255, 0}), 255)) == "cdb 1.1");
  CHECK(field(test.initiator.in(vpd(0x89), 255)) == "cdb 2");
}

TEST_CASE("INQUIRY: SupportedVPD, MandatoryVPDSBC: every page of page 00 can be read") {
  TestDisk test;
  const Bytes list = page_of(test, 0x00);
  const Bytes expected = bytes_of_values({0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2});
  CHECK(Bytes(list.begin() + 4, list.end()) == expected);
  for (const std::byte page : expected) page_of(test, unsigned(page));
  // As Linux reads them: the head first.
  for (const std::byte page : expected) {
    CHECK(said(test.initiator.in(vpd(unsigned(page), 4), 4)) == "good");
    CHECK(value_at(test.initiator.data(), 1, 1) == unsigned(page));
  }
}

TEST_CASE("page 80 is the serial number; without one, the identifier") {
  DiskUnitOptions options = identified();
  TestDisk by_identifier(options);
  const Bytes page = page_of(by_identifier, 0x80);
  CHECK(text_at(page, 4, page.size() - 4) == "101112131415161718191a1b1c1d1e1f");
  options.serial_number = "A-17\n";  // what is not printable becomes a space
  TestDisk by_number(options);
  CHECK(text_at(page_of(by_number, 0x80), 4, 5) == "A-17 ");
  options.serial_number = std::string(1000, 'x');
  TestDisk long_number(options);
  const Outcome outcome = long_number.initiator.in(vpd(0x80, 1000), 1000);
  CHECK(outcome.transferred_bytes == 256);
}

TEST_CASE("page 83: a T10 designator with the identifier, and Microsoft's NAA made of it") {
  TestDisk test(identified());
  const Bytes page = page_of(test, 0x83);
  REQUIRE(page.size() == 4 + 28 + 20);
  CHECK(value_at(page, 4, 4) == 0x01010018);
  CHECK(text_at(page, 8, 8) == "Msft    ");
  CHECK(value_at(page, 16, 8) == 0x1011121314151617);
  CHECK(value_at(page, 24, 8) == 0x18191a1b1c1d1e1f);
  CHECK(value_at(page, 32, 4) == 0x01030010);
  CHECK(value_at(page, 36, 8) == 0x6002248010111213);
  CHECK(value_at(page, 44, 8) == 0x14151a1b1c1d1e1f);
}

TEST_CASE("INQUIRY: BlockLimits: page B0 says what is enforced") {
  DiskUnitOptions options;
  options.trim_granularity_bytes = 2 << 20;
  TestDisk test(options, 512, 4096);
  const Bytes page = page_of(test, 0xb0);
  REQUIRE(page.size() == 64);
  CHECK(value_at(page, 4, 1) == 0);
  CHECK(value_at(page, 5, 1) == 32);
  CHECK(value_at(page, 6, 2) == 8);
  CHECK(value_at(page, 20, 4) == 1 << 20);
  CHECK(value_at(page, 24, 4) == 256);
  CHECK(value_at(page, 28, 4) == 4096);
  CHECK(value_at(page, 32, 4) == 0x80000000);
  CHECK(value_at(page, 36, 8) == 131072);
  TestDisk thick((DiskUnitOptions()));
  const Bytes none = page_of(thick, 0xb0);
  for (const size_t at : {20, 24, 28, 32}) CHECK(value_at(none, at, 4) == 0);
}

TEST_CASE("pages B1 and B2: rotation and provisioning") {
  TestDisk test;
  const Bytes characteristics = page_of(test, 0xb1);
  CHECK(characteristics.size() == 64);
  CHECK(value_at(characteristics, 4, 2) == 1);
  CHECK(value_at(page_of(test, 0xb2), 4, 4) == 0x00e40200);
  TestDisk thick((DiskUnitOptions()));
  CHECK(value_at(page_of(thick, 0xb2), 4, 4) == 0);
}

TEST_CASE("a removable disk says so") {
  DiskUnitOptions options;
  options.is_removable = true;
  TestDisk test(options);
  CHECK(said(test.initiator.in(inquiry(36), 36)) == "good");
  CHECK(value_at(test.initiator.data(), 1, 1) == 0x80);
}

}  // namespace
}  // namespace vhdkit::scsi
