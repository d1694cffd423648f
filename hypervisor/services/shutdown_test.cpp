#include "hypervisor/services/shutdown.h"

#include <doctest/doctest.h>

#include "tests/services/guest.h"
#include "tests/support/await.h"

namespace vhdkit::services {
namespace {

using namespace std::chrono_literals;
using tests::Bytes;
using tests::ServiceGuest;
using tests::ServiceMessage;
using tests::version_word;

struct Fixture {
  Fixture() { guest.attach(shutdown); }
  ~Fixture() { guest.leave(); }
  void agree(uint32_t version = version_word(3, 2)) {
    guest.open_with(version_word(3, 0), version);
  }
  void ask(ShutdownKind kind) {
    outcome.reset();
    shutdown.shut_down(kind, [this](Result<void> result) {
      REQUIRE_FALSE(outcome);
      outcome = std::move(result);
    });
  }

  ServiceGuest guest;
  Shutdown shutdown{guest.host()};
  std::optional<Result<void>> outcome;
};

TEST_CASE_FIXTURE(Fixture, "a guest is asked to switch itself off, or to restart") {
  agree();
  for (const auto& [kind, flags] :
       {std::pair(ShutdownKind::power_off, 0U), {ShutdownKind::restart, 2U}}) {
    ask(kind);
    CHECK_FALSE(outcome);
    const ServiceMessage request = guest.take();
    CHECK(request.type() == 3);
    // Linux wants reason, timeout, flags and 2048 bytes of text.
    CHECK(request.body_bytes() == 2060);
    CHECK(request.body<uint32_t>(8) == flags);
    CHECK(is_zero(std::span(request.bytes()).subspan(28 + 12, 2048)));
    guest.send(request.answer());
    REQUIRE(outcome);
    REQUIRE_OK(*outcome);
  }
}

TEST_CASE_FIXTURE(Fixture, "restarting needs version 3.1") {
  agree(version_word(3, 0));
  ask(ShutdownKind::restart);
  REQUIRE(outcome);
  REQUIRE_FAILS(Errc::unsupported, "3.0", *outcome);
  ask(ShutdownKind::power_off);
  guest.send(guest.take().answer());
  REQUIRE(outcome);
  REQUIRE_OK(*outcome);
}

TEST_CASE_FIXTURE(Fixture, "a guest without the service cannot be asked") {
  SUBCASE("no driver") {}
  SUBCASE("not that far") { guest.open(); }
  ask(ShutdownKind::power_off);
  REQUIRE(outcome);
  CHECK(outcome->error().code == Errc::not_found);
  ask(ShutdownKind::restart);
  REQUIRE(outcome);
  CHECK(outcome->error().code == Errc::not_found);
}

TEST_CASE_FIXTURE(Fixture, "a guest that refuses is heard, and may be asked again") {
  agree();
  ask(ShutdownKind::power_off);
  guest.send(guest.take().answer(0x80004005));
  REQUIRE(outcome);
  REQUIRE_FAILS(Errc::io, "0x80004005", *outcome);
  ask(ShutdownKind::power_off);
  guest.send(guest.take().answer());
  REQUIRE_OK(*outcome);
}

TEST_CASE_FIXTURE(Fixture, "a guest that does not answer for ten seconds has not heard it") {
  agree();
  ask(ShutdownKind::power_off);
  guest.pass(9999ms);
  CHECK_FALSE(outcome);
  guest.pass(1ms);
  REQUIRE(outcome);
  REQUIRE_FAILS(Errc::io, "does not answer", *outcome);
  // What comes then is nobody's.
  guest.send(guest.take().answer());
  CHECK_FALSE(guest.is_broken());
}

TEST_CASE_FIXTURE(Fixture, "one request at a time") {
  agree();
  ask(ShutdownKind::power_off);
  std::optional<Result<void>> second;
  shutdown.shut_down(ShutdownKind::power_off,
                     [&](Result<void> result) { second = std::move(result); });
  REQUIRE(second);
  CHECK(second->error().code == Errc::busy);
  guest.send(guest.take().answer());
  REQUIRE(outcome);
  REQUIRE_OK(*outcome);
}

TEST_CASE_FIXTURE(Fixture, "who waits is told that the guest is gone") {
  agree();
  ask(ShutdownKind::power_off);
  SUBCASE("it closes the channel") { guest.close(); }
  SUBCASE("it breaks the protocol") { guest.send_raw(6, Bytes(8)); }
  SUBCASE("it is switched off") {
    guest.leave();
    guest.attach(shutdown);
  }
  SUBCASE("it does not run any more") { shutdown.guest_is_off(); }
  REQUIRE(outcome);
  REQUIRE_FAILS(Errc::io, "gone", *outcome);
}

}  // namespace
}  // namespace vhdkit::services
