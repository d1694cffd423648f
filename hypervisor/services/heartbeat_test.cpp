#include "hypervisor/services/heartbeat.h"

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
  Fixture() { guest.attach(heartbeat); }
  ~Fixture() { guest.leave(); }
  void agree(uint32_t version = version_word(3, 0)) {
    guest.open_with(version_word(3, 0), version);
  }
  // As hv_utils does: the sequence and one.
  static ServiceMessage answer(const ServiceMessage& request) {
    return request.answer().set_body(0, request.body<uint64_t>(0) + 1);
  }

  ServiceGuest guest;
  Heartbeat heartbeat{guest.host()};
};

TEST_CASE_FIXTURE(Fixture, "a guest that answers every five seconds is running") {
  CHECK(heartbeat.guest() == Heartbeat::Guest::unknown);
  agree();
  CHECK(heartbeat.guest() == Heartbeat::Guest::unknown);
  uint64_t sequence = 0;
  for (int i = 0; i < 20; ++i) {
    const ServiceMessage request = guest.take();
    CHECK(request.type() == 1);
    // Linux's heartbeat_msg_data: a sequence and eight words.
    CHECK(request.body_bytes() == 40);
    CHECK(request.body<uint64_t>(0) > sequence);
    sequence = request.body<uint64_t>(0);
    guest.send(answer(request));
    CHECK(heartbeat.guest() == Heartbeat::Guest::running);
    guest.pass(4999ms);
    CHECK_FALSE(guest.has_more());
    guest.pass(1ms);
  }
  CHECK(heartbeat.report()["answers"] == 20);
  CHECK(heartbeat.report()["guest"] == "running");
  CHECK(heartbeat.report()["silent-for-ms"] == 5000);
}

TEST_CASE_FIXTURE(Fixture,
                  "a guest that is silent for fifteen seconds is lost, and back when it answers") {
  agree(version_word(1, 0));
  guest.send(answer(guest.take()));
  guest.pass(5s);
  const ServiceMessage request = guest.take();
  guest.pass(9999ms);
  CHECK(heartbeat.guest() == Heartbeat::Guest::running);
  guest.pass(1ms);
  CHECK(heartbeat.guest() == Heartbeat::Guest::lost);
  CHECK(heartbeat.report()["guest"] == "lost");
  guest.pass(1h);
  CHECK(heartbeat.silence() == std::chrono::hours(1) + 15s);
  // It was asked no second time.
  CHECK_FALSE(guest.has_more());
  guest.send(answer(request));
  CHECK(heartbeat.guest() == Heartbeat::Guest::running);
  guest.pass(5s);
  CHECK(guest.has_more());
}

TEST_CASE_FIXTURE(Fixture,
                  "a guest that is paused is not lost, and has its time again afterwards") {
  agree();
  guest.send(answer(guest.take()));
  guest.pass(5s);
  const ServiceMessage request = guest.take();
  heartbeat.paused();
  CHECK(heartbeat.guest() == Heartbeat::Guest::paused);
  guest.pass(1h);
  CHECK(heartbeat.report()["guest"] == "paused");
  heartbeat.resumed();
  CHECK(heartbeat.guest() == Heartbeat::Guest::running);
  guest.pass(14999ms);
  CHECK(heartbeat.guest() == Heartbeat::Guest::running);
  guest.pass(1ms);
  CHECK(heartbeat.guest() == Heartbeat::Guest::lost);
  guest.send(answer(request));
  CHECK(heartbeat.guest() == Heartbeat::Guest::running);
}

TEST_CASE_FIXTURE(Fixture, "what a guest says of its applications is told") {
  agree();
  guest.send(answer(guest.take()).set_body(8, uint32_t{2}));
  CHECK(heartbeat.report()["applications"] == "critical");
  guest.pass(5s);
  guest.send(answer(guest.take()).set_body(8, uint32_t{77}));
  CHECK(heartbeat.report()["applications"] == "unknown");
}

TEST_CASE_FIXTURE(Fixture, "a sequence that is not the next one breaks the channel off") {
  agree();
  const ServiceMessage request = guest.take();
  SUBCASE("the same") { guest.send(request.answer()); }
  SUBCASE("a far one") { guest.send(request.answer().set_body(0, UINT64_MAX)); }
  SUBCASE("half of one") { guest.send(answer(request).set(18, uint16_t{4})); }
  CHECK(guest.is_broken());
  CHECK(heartbeat.guest() == Heartbeat::Guest::unknown);
}

TEST_CASE_FIXTURE(Fixture, "a guest that has left is unknown") {
  agree();
  guest.send(answer(guest.take()));
  guest.close();
  CHECK(heartbeat.guest() == Heartbeat::Guest::unknown);
  CHECK(heartbeat.report()["state"] == "closed");
  CHECK(heartbeat.report()["answers"] == 1);
}

}  // namespace
}  // namespace vhdkit::services
