#include "hypervisor/services/time_synchronization.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/services/guest.h"

namespace vhdkit::services {
namespace {

using namespace std::chrono_literals;
using tests::ServiceGuest;
using tests::ServiceMessage;
using tests::version_word;

struct Fixture {
  Fixture() { guest.attach(time); }
  ~Fixture() { guest.leave(); }
  void agree(uint32_t version = version_word(4, 0)) {
    guest.open_with(version_word(3, 0), version);
  }

  ServiceGuest guest;
  std::optional<TimeReading> reading =
      TimeReading{.host_time = 0x1122334455667788, .reference_time = 99};
  TimeSynchronization time{guest.host(), [this] { return reading; }};
};

constexpr uint8_t set = 1;
constexpr uint8_t sample = 2;

TEST_CASE_FIXTURE(Fixture, "a guest's clock is set once, then it gets samples") {
  agree();
  // Linux's ictimesync_ref_data.
  const ServiceMessage first = guest.take();
  CHECK(first.type() == 4);
  CHECK(first.body_bytes() == 22);
  CHECK(first.body<uint64_t>(0) == 0x1122334455667788);
  CHECK(first.body<uint64_t>(8) == 99);
  CHECK(first.body<uint8_t>(16) == set);
  guest.send(first.answer());
  for (uint64_t i = 1; i < 10; ++i) {
    reading = TimeReading{.host_time = i, .reference_time = 2 * i};
    guest.pass(4999ms);
    CHECK_FALSE(guest.has_more());
    guest.pass(1ms);
    const ServiceMessage message = guest.take();
    CHECK(message.body<uint64_t>(0) == i);
    CHECK(message.body<uint64_t>(8) == 2 * i);
    CHECK(message.body<uint8_t>(16) == sample);
    guest.send(message.answer());
  }
  CHECK(time.report()["times-set"] == 1);
  CHECK(time.report()["samples"] == 9);
}

TEST_CASE_FIXTURE(Fixture, "older guests get the host's time alone") {
  SUBCASE("3.0") { agree(version_word(3, 0)); }
  SUBCASE("1.0") { agree(version_word(1, 0)); }
  // Linux's ictimesync_data.
  const ServiceMessage message = guest.take();
  CHECK(message.body_bytes() == 25);
  CHECK(message.body<uint64_t>(0) == 0x1122334455667788);
  CHECK(message.body<uint64_t>(8) == 0);
  CHECK(message.body<uint64_t>(16) == 0);
  CHECK(message.body<uint8_t>(24) == set);
}

TEST_CASE_FIXTURE(Fixture,
                  "after standing still the clock is set at once, also where an answer is owed") {
  agree();
  guest.send(guest.take().answer());
  guest.pass(5s);
  const ServiceMessage owed = guest.take();
  SUBCASE("nothing owed") { guest.send(owed.answer()); }
  SUBCASE("an answer owed") {}
  time.resumed();
  const ServiceMessage message = guest.take();
  CHECK(message.body<uint8_t>(16) == set);
  guest.send(message.answer());
  guest.pass(5s);
  CHECK(guest.take().body<uint8_t>(16) == sample);
}

TEST_CASE_FIXTURE(Fixture, "a time that was told before the guest stood still does not count") {
  agree();
  const ServiceMessage before = guest.take();
  CHECK(before.body<uint8_t>(16) == set);
  reading->host_time += 600'000'000;
  time.resumed();
  const ServiceMessage after = guest.take();
  CHECK(after.body<uint8_t>(16) == set);
  CHECK(after.body<uint64_t>(0) == reading->host_time);
  guest.send(before.answer());
  CHECK(time.report()["times-set"] == 0);
  guest.send(after.answer());
  CHECK(time.report()["times-set"] == 1);
}

TEST_CASE_FIXTURE(Fixture, "a guest that stands still for long is told the time once it goes on") {
  agree();
  guest.send(guest.take().answer());
  reading.reset();
  guest.pass(1h);
  CHECK_FALSE(guest.has_more());
  reading = TimeReading{.host_time = 7, .reference_time = 1};
  time.resumed();
  const ServiceMessage message = guest.take();
  CHECK(message.body<uint8_t>(16) == set);
  CHECK(message.body<uint64_t>(0) == 7);
}

TEST_CASE_FIXTURE(Fixture,
                  "what was not answered is set again; a guest that never answers gets four") {
  agree();
  CHECK(guest.take().body<uint8_t>(16) == set);
  guest.pass(19s);
  CHECK_FALSE(guest.has_more());
  guest.pass(6s);
  CHECK(guest.take().body<uint8_t>(16) == set);
  guest.pass(1h);
  unsigned count = 2;
  while (guest.receive()) ++count;
  CHECK(count == 4);
  CHECK_FALSE(guest.is_broken());
  CHECK(time.report()["times-set"] == 0);
}

TEST_CASE_FIXTURE(Fixture, "without a partition there is no time to tell") {
  reading.reset();
  agree();
  CHECK_FALSE(guest.has_more());
  reading = TimeReading{.host_time = 1, .reference_time = 1};
  guest.pass(5s);
  CHECK(guest.take().body<uint8_t>(16) == set);
}

TEST_CASE_FIXTURE(Fixture, "resuming a guest without the service does nothing") {
  time.resumed();
  CHECK(time.next_time() == never);
}

TEST_CASE("the host's time counts from 1601") {
  // As Linux has it (WLTIMEDELTA): 11644473600 s before 1970.
  const uint64_t before = uint64_t(::time(nullptr));
  const uint64_t seconds = host_time_now() / 10'000'000 - 11'644'473'600;
  CHECK(seconds >= before);
  CHECK(seconds <= uint64_t(::time(nullptr)) + 1);
}

}  // namespace
}  // namespace vhdkit::services
