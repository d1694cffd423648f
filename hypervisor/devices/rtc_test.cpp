#include "hypervisor/devices/rtc.h"

#include <doctest/doctest.h>

#include <utility>

namespace vhdkit::hypervisor {
namespace {

using namespace std::chrono;

struct Fixture {
  uint8_t read(uint8_t index) {
    ports.write(0x70, 1, index);
    return uint8_t(ports.read(0x71, 1));
  }
  void write(uint8_t index, uint8_t value) {
    ports.write(0x70, 1, index);
    ports.write(0x71, 1, value);
  }

  Rtc::Time now = sys_days(2026y / November / 29) + 21h + 58min + 7s;  // a Sunday
  Rtc rtc{[this] { return now; }};
  Ports ports = [this] {
    Ports made;
    made.add(0x70, 2, rtc);
    return made;
  }();
};

TEST_CASE("the date is in BCD, of 24 hours") {
  Fixture fixture;
  CHECK(fixture.read(0) == 0x07);
  CHECK(fixture.read(2) == 0x58);
  CHECK(fixture.read(4) == 0x21);
  CHECK(fixture.read(6) == 1);
  CHECK(fixture.read(7) == 0x29);
  CHECK(fixture.read(8) == 0x11);
  CHECK(fixture.read(9) == 0x26);
  CHECK(fixture.read(0x32) == 0x20);
  // The bit that holds NMIs back is none of the index.
  CHECK(fixture.read(0x84) == 0x21);
}

TEST_CASE("no update is ever in progress, and the battery is good") {
  Fixture fixture;
  CHECK(fixture.read(0x0a) == 0x26);
  CHECK((fixture.read(0x0b) & 0x06) == 0x02);
  CHECK(fixture.read(0x0c) == 0);
  CHECK(fixture.read(0x0d) == 0x80);
}

TEST_CASE("a guest that sets the clock keeps its difference") {
  Fixture fixture;
  fixture.write(0x0b, 0x82);  // SET: the clock stands still
  fixture.write(9, 0x30);
  fixture.write(8, 0x02);
  fixture.write(7, 0x28);
  fixture.write(4, 0x23);
  fixture.write(2, 0x59);
  fixture.write(0, 0x50);
  fixture.now += 100s;
  CHECK(fixture.read(0) == 0x50);
  fixture.write(0x0b, 0x02);
  fixture.now += 15s;
  CHECK(fixture.read(0) == 0x05);
  CHECK(fixture.read(2) == 0x00);
  CHECK(fixture.read(4) == 0x00);
  CHECK(fixture.read(7) == 0x01);
  CHECK(fixture.read(8) == 0x03);
  CHECK(fixture.read(9) == 0x30);
  fixture.write(0x32, 0x19);
  CHECK(fixture.read(0x32) == 0x19);
  CHECK(fixture.read(9) == 0x30);
}

TEST_CASE("a field by itself counts at once, and the day stays in its month") {
  Fixture fixture;
  fixture.write(8, 0x02);
  CHECK(fixture.read(7) == 0x28);
  CHECK(fixture.read(4) == 0x21);
}

TEST_CASE("the day of the week goes with the date, and years are leap years where they are") {
  Fixture fixture;
  fixture.write(9, 0x28);
  fixture.write(8, 0x02);
  fixture.write(7, 0x29);  // 2028, a Tuesday
  CHECK(fixture.read(7) == 0x29);
  CHECK(fixture.read(6) == 3);
  fixture.now += 24h;
  CHECK(fixture.read(8) == 0x03);
  CHECK(fixture.read(7) == 0x01);
  CHECK(fixture.read(6) == 4);
  fixture.write(6, 7);  // nobody's to say
  CHECK(fixture.read(6) == 4);
  fixture.write(0x32, 0x19);
  fixture.write(9, 0x00);
  fixture.write(8, 0x02);
  fixture.write(7, 0x29);  // 1900 had none
  CHECK(fixture.read(7) == 0x28);
}

TEST_CASE("a new century begins by itself") {
  Fixture fixture;
  fixture.now = sys_days(2099y / December / 31) + 23h + 59min + 59s;
  CHECK(fixture.read(9) == 0x99);
  fixture.now += 1s;
  CHECK(fixture.read(9) == 0x00);
  CHECK(fixture.read(0x32) == 0x21);
}

// mc146818_set_time() of Linux 6.1 stops the divider as well, and puts back what it has read.
TEST_CASE("Linux sets the clock") {
  Fixture fixture;
  const uint8_t status_b = fixture.read(0x0b);
  fixture.write(0x0b, uint8_t(status_b | 0x80));
  const uint8_t status_a = fixture.read(0x0a);
  fixture.write(0x0a, uint8_t(status_a | 0x70));
  constexpr std::pair<uint8_t, uint8_t> date[] = {{9, 0x27}, {8, 0x01}, {7, 0x31},   {4, 0x12},
                                                  {2, 0x34}, {0, 0x56}, {0x32, 0x20}};
  for (const auto& [index, value] : date) fixture.write(index, value);
  fixture.write(0x0b, status_b);
  fixture.write(0x0a, status_a);
  for (const auto& [index, value] : date) CHECK(fixture.read(index) == value);
  CHECK(fixture.read(0x0b) == status_b);
  CHECK(fixture.read(0x0a) == 0x26);
}

TEST_CASE("binary numbers and 12 hours are not to be had") {
  Fixture fixture;
  fixture.write(0x0b, 0x04);
  CHECK(fixture.read(0x0b) == 0x02);
  CHECK(fixture.read(4) == 0x21);
}

TEST_CASE("digits that are none are the nearest that the calendar has, however often") {
  Fixture fixture;
  for (int i = 0; i < 1000; ++i) fixture.write(9, 0xff);
  CHECK(fixture.read(9) == 0x99);
  CHECK(fixture.read(0x32) == 0x20);
  for (int i = 0; i < 1000; ++i) fixture.write(0x32, 0xff);
  CHECK(fixture.read(0x32) == 0x99);
  fixture.write(8, 0x13);
  CHECK(fixture.read(8) == 0x12);
  fixture.write(7, 0);
  CHECK(fixture.read(7) == 0x01);
  fixture.write(4, 0x24);
  CHECK(fixture.read(4) == 0x23);
  fixture.write(2, 0x60);
  CHECK(fixture.read(2) == 0x59);
  fixture.write(0, 0xff);
  CHECK(fixture.read(0) == 0x59);
}

TEST_CASE("other registers are kept, and what no calendar has does no harm") {
  Fixture fixture;
  fixture.write(0x40, 0xa5);
  CHECK(fixture.read(0x40) == 0xa5);
  for (int index = 0; index < 256; ++index)
    for (const int value : {0x00, 0x99, 0xff}) fixture.write(uint8_t(index), uint8_t(value));
  CHECK((fixture.read(8) & 0xf) <= 9);
}

}  // namespace
}  // namespace vhdkit::hypervisor
