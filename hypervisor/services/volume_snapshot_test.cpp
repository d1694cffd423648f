#include "hypervisor/services/volume_snapshot.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/services/guest.h"
#include "tests/support/await.h"

namespace vhdkit::services {
namespace {

using namespace std::chrono_literals;
using Phase = VolumeSnapshot::Phase;
using tests::Bytes;
using tests::ServiceGuest;
using tests::ServiceMessage;
using tests::version_word;

// Operations by Linux's include/uapi/linux/hyperv.h.
constexpr uint8_t hot_backup = 2;
constexpr uint8_t freeze = 5;
constexpr uint8_t thaw = 6;

struct Fixture {
  Fixture() {
    guest.attach(service);
    guest.open_with(version_word(3, 0), version_word(5, 0));
  }
  ~Fixture() { guest.leave(); }

  Done note(std::optional<Result<void>>& outcome) {
    outcome.reset();
    return [&outcome](Result<void> result) {
      REQUIRE_FALSE(outcome);
      outcome = std::move(result);
    };
  }
  void begin() { service.freeze(note(frozen)); }
  void end() { service.thaw(note(thawed)); }
  ServiceMessage take(uint8_t operation) {
    ServiceMessage message = guest.take();
    CHECK(message.type() == 5);
    CHECK(message.body_bytes() == 12);
    CHECK(message.body<uint64_t>(0) == operation);
    CHECK_FALSE(guest.has_more());
    return message;
  }
  // As Linux does: VSS_HBU_NO_AUTO_RECOVERY.
  void agree_to_backup() { guest.send(take(hot_backup).answer().set_body(8, uint32_t{5})); }
  void become_frozen() {
    begin();
    agree_to_backup();
    guest.send(take(freeze).answer());
    REQUIRE(frozen);
    REQUIRE_OK(*frozen);
  }

  ServiceGuest guest;
  VolumeSnapshot service{guest.host()};
  std::optional<Result<void>> frozen;
  std::optional<Result<void>> thawed;
};

TEST_CASE_FIXTURE(Fixture, "a guest is frozen and thawed") {
  for (int i = 0; i < 3; ++i) {
    begin();
    CHECK(service.phase() == Phase::preparing);
    agree_to_backup();
    CHECK(service.phase() == Phase::freezing);
    CHECK_FALSE(frozen);
    guest.pass(10s);
    guest.send(take(freeze).answer());
    REQUIRE(frozen);
    REQUIRE_OK(*frozen);
    CHECK(service.phase() == Phase::frozen);
    guest.pass(59s);
    end();
    CHECK(service.phase() == Phase::thawing);
    CHECK_FALSE(thawed);
    guest.send(take(thaw).answer());
    REQUIRE(thawed);
    REQUIRE_OK(*thawed);
    CHECK(service.phase() == Phase::idle);
    guest.pass(1h);
    CHECK_FALSE(guest.has_more());
  }
  CHECK(service.report()["freezes"] == 3);
  CHECK(service.report()["phase"] == "idle");
}

TEST_CASE_FIXTURE(Fixture, "a guest without a daemon says so") {
  begin();
  guest.send(take(hot_backup).answer(0x80004005));
  REQUIRE(frozen);
  REQUIRE_FAILS(Errc::io, "cannot be frozen", *frozen);
  CHECK(service.phase() == Phase::idle);
  become_frozen();
}

TEST_CASE_FIXTURE(Fixture, "a guest is frozen whatever flags it answers") {
  begin();
  guest.send(take(hot_backup).answer());
  guest.send(take(freeze).answer());
  REQUIRE(frozen);
  REQUIRE_OK(*frozen);
}

TEST_CASE_FIXTURE(Fixture, "a guest that does not even prepare is not frozen") {
  begin();
  guest.pass(59999ms);
  CHECK_FALSE(frozen);
  guest.pass(1ms);
  REQUIRE(frozen);
  REQUIRE_FAILS(Errc::io, "60", *frozen);
  // Its answer comes too late, and freezes nothing.
  agree_to_backup();
  CHECK_FALSE(guest.has_more());
  CHECK(service.phase() == Phase::idle);
  become_frozen();
}

TEST_CASE_FIXTURE(Fixture, "a guest that cannot freeze is thawed") {
  begin();
  agree_to_backup();
  guest.send(take(freeze).answer(0x80004005));
  REQUIRE(frozen);
  REQUIRE_FAILS(Errc::io, "could not freeze", *frozen);
  CHECK(service.phase() == Phase::thawing);
  guest.send(take(thaw).answer());
  CHECK(service.phase() == Phase::idle);
  become_frozen();
}

TEST_CASE_FIXTURE(Fixture, "a daemon that never answers leads to thawing and an error") {
  begin();
  agree_to_backup();
  const ServiceMessage request = take(freeze);
  guest.pass(60s);
  REQUIRE(frozen);
  REQUIRE_FAILS(Errc::io, "not frozen", *frozen);
  CHECK(service.phase() == Phase::thawing);
  const ServiceMessage relief = take(thaw);
  // Until it has answered that, nothing else can be asked.
  guest.pass(1h);
  begin();
  REQUIRE_FAILS(Errc::busy, "thawing", *frozen);
  CHECK_FALSE(guest.has_more());
  SUBCASE("then both answers") { guest.send(request.answer()); }
  SUBCASE("then one") {}
  CHECK(service.phase() == Phase::thawing);
  guest.send(relief.answer());
  CHECK(service.phase() == Phase::idle);
  become_frozen();
}

TEST_CASE_FIXTURE(Fixture, "a guest that nobody thaws is thawed after a minute, and that is told") {
  become_frozen();
  guest.pass(59999ms);
  CHECK(service.phase() == Phase::frozen);
  guest.pass(1ms);
  guest.send(take(thaw).answer());
  CHECK(service.phase() == Phase::idle);
  end();
  REQUIRE(thawed);
  REQUIRE_FAILS(Errc::io, "60 s", *thawed);
  end();
  REQUIRE_FAILS(Errc::not_found, "not frozen", *thawed);
}

TEST_CASE_FIXTURE(Fixture, "a guest that does not thaw is told of") {
  become_frozen();
  end();
  SUBCASE("it says so") {
    guest.send(take(thaw).answer(0x80004005));
    REQUIRE(thawed);
    REQUIRE_FAILS(Errc::io, "could not thaw", *thawed);
    CHECK(service.phase() == Phase::idle);
  }
  SUBCASE("it says nothing") {
    guest.pass(29999ms);
    CHECK_FALSE(thawed);
    guest.pass(1ms);
    REQUIRE(thawed);
    REQUIRE_FAILS(Errc::io, "has thawed", *thawed);
    CHECK(service.phase() == Phase::thawing);
    guest.send(take(thaw).answer());
    CHECK(service.phase() == Phase::idle);
  }
}

TEST_CASE_FIXTURE(Fixture, "a guest that makes no room for thawing is told again") {
  // So full that the message does not fit: as if the guest had read nothing.
  become_frozen();
  const uint32_t written = guest.incoming.word(tests::GuestRing::write_index);
  guest.incoming.set_word(tests::GuestRing::read_index, guest.incoming.after(written, 16));
  end();
  CHECK(service.phase() == Phase::thawing);
  guest.pass(1s);
  REQUIRE(thawed);
  CHECK_FALSE(*thawed);
  guest.incoming.set_word(tests::GuestRing::read_index, written);
  guest.pass(1s);
  guest.send(take(thaw).answer());
  CHECK(service.phase() == Phase::idle);
}

TEST_CASE_FIXTURE(Fixture, "one at a time, and in order") {
  end();
  REQUIRE(thawed);
  REQUIRE_FAILS(Errc::not_found, "not frozen", *thawed);
  begin();
  std::optional<Result<void>> second;
  service.freeze(note(second));
  REQUIRE(second);
  CHECK(second->error().code == Errc::busy);
  end();
  REQUIRE_FAILS(Errc::busy, "preparing", *thawed);
  agree_to_backup();
  end();
  REQUIRE_FAILS(Errc::busy, "freezing", *thawed);
  guest.send(take(freeze).answer());
  REQUIRE_OK(*frozen);
  service.freeze(note(second));
  REQUIRE_FAILS(Errc::busy, "frozen", *second);
}

TEST_CASE_FIXTURE(Fixture, "who waits is told that the guest is gone") {
  begin();
  SUBCASE("while it prepares") { guest.close(); }
  SUBCASE("while it freezes") {
    agree_to_backup();
    guest.close();
  }
  SUBCASE("while it freezes, without a word") {
    agree_to_backup();
    service.guest_is_off();
  }
  SUBCASE("it answers too little") {
    guest.send(take(hot_backup).answer().set(18, uint16_t{8}));
    CHECK(guest.is_broken());
  }
  REQUIRE(frozen);
  CHECK(frozen->error().code == Errc::io);
  CHECK(service.phase() == Phase::idle);
  service.freeze(note(frozen));
  CHECK(frozen->error().code == Errc::not_found);
}

TEST_CASE_FIXTURE(Fixture, "a guest that goes while it is frozen is not frozen any more") {
  become_frozen();
  guest.close();
  CHECK(service.phase() == Phase::idle);
  end();
  REQUIRE_FAILS(Errc::not_found, "not frozen", *thawed);
}

}  // namespace
}  // namespace vhdkit::services
