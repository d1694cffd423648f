// What all services have, tried with one that repeats what it hears.
#include "hypervisor/services/service.h"

#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "tests/services/guest.h"
#include "tests/support/await.h"

namespace vhdkit::services {
namespace {

using tests::Bytes;
using tests::ServiceGuest;
using tests::ServiceMessage;
using tests::version_word;

constexpr std::array versions = {Version{4, 1}, Version{3, 0}};
constexpr Service::Kind kind{.name = "echo",
                             .interface_type = heartbeat_interface,
                             .instance = Guid::literal("00000000-1111-2222-3333-444444444444"),
                             .type = MessageType::shutdown,
                             .versions = versions};

class Echo final : public Service {
 public:
  explicit Echo(const Host& host) : Service(host, kind) {}

  Result<uint8_t> ask(size_t body_bytes, Time deadline = never) {
    return request(Bytes(body_bytes, std::byte{0x5a}), deadline);
  }
  using Service::set_due;

  std::vector<std::string> events;
  std::function<Result<void>(const Answer&)> judge;

 private:
  void agreed() override { events.push_back("agreed " + version().to_string()); }
  Result<void> answered(const Answer& answer) override {
    events.push_back("answered " + std::to_string(answer.transaction) + " status " +
                     std::to_string(answer.status) + " body " + std::to_string(answer.body.size()));
    return judge ? judge(answer) : Result<void>();
  }
  void unanswered(uint8_t transaction) override {
    events.push_back("unanswered " + std::to_string(transaction));
  }
  void due() override { events.emplace_back("due"); }
  void ended() override { events.emplace_back("ended"); }
  void add_to(nlohmann::ordered_json& report) const override { report["added"] = true; }
};

struct Fixture {
  Fixture() { guest.attach(service); }
  ~Fixture() { guest.leave(); }
  void make_ready() {
    guest.open_with(version_word(3, 0), version_word(4, 1));
    service.events.clear();
  }
  bool has_logged(const std::string& text) const {
    return guest.log.size() == 1 && guest.log[0].find(text) != std::string::npos;
  }

  ServiceGuest guest;
  Echo service{guest.host()};
};

TEST_CASE_FIXTURE(Fixture, "the offer has the class, the instance and a pipe of messages") {
  const auto guid_at = [&](size_t offset) {
    StoredGuid stored;
    std::memcpy(stored.bytes.data(), guest.offer.data() + offset, 16);
    return Guid::from_stored(stored).to_string();
  };
  CHECK(guid_at(8) == "57164f39-9115-4e78-ab55-382f3bd5422d");
  CHECK(guid_at(24) == "00000000-1111-2222-3333-444444444444");
  CHECK(guest.offer[56] == std::byte{0x10});
  CHECK(guest.offer[57] == std::byte{0});
  CHECK(guest.offer[60] == std::byte{4});
}

TEST_CASE_FIXTURE(Fixture, "the host begins with the versions that it knows") {
  CHECK(service.state() == Service::State::offered);
  CHECK(service.ask(8).error().code == Errc::not_found);
  guest.open();
  CHECK(service.state() == Service::State::negotiating);
  const ServiceMessage message = guest.take();
  CHECK_FALSE(guest.has_more());
  // Guest contract J: a pipe's header, a message of type 0 with transaction and request, two
  // counts, then frameworks before messages.
  REQUIRE(message.bytes().size() == 56);
  CHECK(message.get<uint32_t>(0) == 1);
  CHECK(message.get<uint32_t>(4) == 20 + 24);
  CHECK(message.get<uint32_t>(8) == 0);
  CHECK(message.type() == 0);
  CHECK(message.body_bytes() == 24);
  CHECK(message.get<uint8_t>(25) == 3);
  CHECK(message.body<uint16_t>(0) == 2);
  CHECK(message.body<uint16_t>(2) == 2);
  CHECK(message.body<uint32_t>(8) == version_word(3, 0));
  CHECK(message.body<uint32_t>(12) == version_word(1, 0));
  CHECK(message.body<uint32_t>(16) == version_word(4, 1));
  CHECK(message.body<uint32_t>(20) == version_word(3, 0));
  guest.send(ServiceGuest::choice(message, version_word(1, 0), version_word(3, 0)));
  CHECK(service.state() == Service::State::ready);
  CHECK(service.events == std::vector<std::string>{"agreed 3.0"});
  const auto report = service.report();
  CHECK(report["state"] == "ready");
  CHECK(report["framework-version"] == "1.0");
  CHECK(report["version"] == "3.0");
  CHECK(report["added"] == true);
}

TEST_CASE_FIXTURE(Fixture, "a guest that knows none of the versions is asked nothing") {
  guest.open();
  guest.send(ServiceGuest::choice(guest.take(), version_word(2, 0), version_word(2, 0), 0));
  CHECK(service.state() == Service::State::refused);
  REQUIRE_FAILS(Errc::not_found, "no version", service.ask(8));
  CHECK(guest.log.empty());
}

TEST_CASE_FIXTURE(Fixture,
                  "versions that were not offered, and cut off ones, break the channel off") {
  guest.open();
  const ServiceMessage negotiation = guest.take();
  SUBCASE("a framework") {
    guest.send(ServiceGuest::choice(negotiation, version_word(2, 0), version_word(4, 1)));
  }
  SUBCASE("a version") {
    guest.send(ServiceGuest::choice(negotiation, version_word(3, 0), version_word(4, 0)));
  }
  SUBCASE("an end before the versions") {
    guest.send(ServiceGuest::choice(negotiation, version_word(3, 0), version_word(4, 1))
                   .set(18, uint16_t{12}));
  }
  SUBCASE("an end before the counts") {
    guest.send(ServiceGuest::choice(negotiation, version_word(3, 0), version_word(4, 1))
                   .set(18, uint16_t{6}));
  }
  CHECK(guest.is_broken());
  CHECK(has_logged("echo: "));
  CHECK(service.events == std::vector<std::string>{"ended"});
}

TEST_CASE_FIXTURE(Fixture,
                  "requests carry the versions, and the answer with their transaction counts") {
  make_ready();
  const auto transaction = service.ask(5);
  REQUIRE_OK(transaction);
  const ServiceMessage message = guest.take();
  CHECK(message.get<uint32_t>(8) == version_word(3, 0));
  CHECK(message.type() == 3);
  CHECK(message.get<uint32_t>(14) == version_word(4, 1));
  CHECK(message.body_bytes() == 5);
  CHECK(message.get<uint32_t>(4) == 25);
  CHECK(message.transaction() == *transaction);
  CHECK(message.get<uint8_t>(25) == 3);
  CHECK(message.body<uint8_t>(4) == 0x5a);
  // Packets have multiples of 8 bytes, padded with zeroes.
  CHECK(message.bytes().size() == 40);
  CHECK(message.body<uint8_t>(5) == 0);
  guest.send(message.answer(7));
  CHECK(service.events ==
        std::vector<std::string>{"answered " + std::to_string(*transaction) + " status 7 body 5"});
}

TEST_CASE_FIXTURE(Fixture, "a guest that does not answer is asked four times at most") {
  make_ready();
  std::vector<ServiceMessage> messages;
  for (int i = 0; i < 4; ++i) {
    REQUIRE_OK(service.ask(100));
    messages.push_back(guest.take());
  }
  REQUIRE_FAILS(Errc::busy, "has not answered", service.ask(100));
  // In any order.
  guest.send(messages[2].answer());
  REQUIRE_OK(service.ask(100));
  CHECK(service.ask(100).error().code == Errc::busy);
  CHECK_FALSE(guest.is_broken());
}

TEST_CASE_FIXTURE(Fixture, "transactions are told apart for ever") {
  make_ready();
  REQUIRE_OK(service.ask(8));
  const ServiceMessage first = guest.take();
  for (int i = 0; i < 1000; ++i) {
    REQUIRE_OK(service.ask(8));
    const ServiceMessage message = guest.take();
    CHECK(message.transaction() != first.transaction());
    guest.send(message.answer());
  }
  service.events.clear();
  guest.send(first.answer());
  CHECK(service.events.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "what is not answered in time is told, and dropped when it comes") {
  make_ready();
  const auto transaction = service.ask(8, guest.now() + std::chrono::seconds(5));
  REQUIRE_OK(transaction);
  guest.pass(std::chrono::milliseconds(4999));
  CHECK(service.events.empty());
  guest.pass(std::chrono::milliseconds(1));
  const std::vector<std::string> told = {"unanswered " + std::to_string(*transaction)};
  CHECK(service.events == told);
  guest.send(guest.take().answer());
  guest.pass(std::chrono::hours(1));
  CHECK(service.events == told);
  CHECK_FALSE(guest.is_broken());
}

TEST_CASE_FIXTURE(Fixture, "a service is woken when it is due, once") {
  make_ready();
  service.set_due(guest.now() + std::chrono::seconds(1));
  service.set_due(guest.now() + std::chrono::seconds(3));
  guest.pass(std::chrono::milliseconds(2999));
  CHECK(service.events.empty());
  guest.pass(std::chrono::hours(1));
  CHECK(service.events == std::vector<std::string>{"due"});
}

TEST_CASE_FIXTURE(Fixture, "what has slack is done early if somebody looks, and in time if not") {
  make_ready();
  const auto look_after = [this](std::chrono::milliseconds time) {
    guest.pass(time);
    service.look_at_clock(guest.now());
    return service.events.size();
  };
  service.set_due(guest.now() + std::chrono::seconds(3), std::chrono::seconds(1));
  CHECK(look_after(std::chrono::milliseconds(1999)) == 0);
  CHECK(look_after(std::chrono::milliseconds(1)) == 1);
  CHECK(look_after(std::chrono::hours(1)) == 1);
  service.set_due(guest.now() + std::chrono::seconds(3), std::chrono::seconds(1));
  guest.pass(std::chrono::milliseconds(2999));
  CHECK(service.events.size() == 1);
  guest.pass(std::chrono::milliseconds(1));
  CHECK(service.events.size() == 2);
}

TEST_CASE_FIXTURE(Fixture, "answers to nothing are borne sixteen times") {
  make_ready();
  REQUIRE_OK(service.ask(8));
  const ServiceMessage message = guest.take();
  ServiceMessage stray = message.answer();
  SUBCASE("a transaction that was not begun") { stray.set(24, uint8_t(message.transaction() + 1)); }
  SUBCASE("another type") { stray.set(12, uint16_t{1}); }
  SUBCASE("a type that there is not") { stray.set(12, uint16_t{99}); }
  SUBCASE("no answer but a request") { stray.set(25, uint8_t{3}); }
  for (int i = 0; i < 16; ++i) guest.send(stray);
  CHECK_FALSE(guest.is_broken());
  CHECK(service.report()["stray-answers"] == 16);
  guest.send(message.answer());
  CHECK(service.events.size() == 1);
  guest.send(stray);
  CHECK(guest.is_broken());
  CHECK(has_logged("17 messages answer nothing"));
}

TEST_CASE_FIXTURE(Fixture, "a negotiation that is answered twice changes nothing") {
  guest.open();
  const ServiceMessage negotiation = guest.take();
  const ServiceMessage choice =
      ServiceGuest::choice(negotiation, version_word(3, 0), version_word(4, 1));
  guest.send(choice);
  guest.send(ServiceGuest::choice(negotiation, version_word(3, 0), version_word(3, 0)));
  CHECK(service.report()["version"] == "4.1");
}

TEST_CASE_FIXTURE(Fixture, "lengths that lie break the channel off") {
  make_ready();
  REQUIRE_OK(service.ask(40));
  const ServiceMessage answer = guest.take().answer();
  SUBCASE("no header at all") { guest.send_raw(6, Bytes(8)); }
  SUBCASE("half a header") { guest.send_raw(6, Bytes(24)); }
  SUBCASE("nothing") { guest.send_raw(6, {}); }
  SUBCASE("a pipe of more than the packet has") {
    guest.send(ServiceMessage(answer).set(4, uint32_t{60 + 8}));
  }
  SUBCASE("a pipe as long as can be") { guest.send(ServiceMessage(answer).set(4, UINT32_MAX)); }
  SUBCASE("a pipe of less than a header") {
    guest.send(ServiceMessage(answer).set(4, uint32_t{19}));
  }
  SUBCASE("a body of more than the pipe has") {
    guest.send(ServiceMessage(answer).set(18, uint16_t{41}));
  }
  SUBCASE("a body as long as can be") { guest.send(ServiceMessage(answer).set(18, UINT16_MAX)); }
  SUBCASE("no data of a pipe") { guest.send(ServiceMessage(answer).set(0, uint32_t{2})); }
  SUBCASE("another type of packet") { guest.send_raw(9, answer.bytes()); }
  SUBCASE("a completion") { guest.send_raw(11, answer.bytes()); }
  SUBCASE("a message that no service has") { guest.send_raw(6, Bytes(8192)); }
  CHECK(guest.is_broken());
  CHECK(has_logged("it is closed"));
  CHECK(service.events == std::vector<std::string>{"ended"});
  REQUIRE_FAILS(Errc::not_found, "broke", service.ask(8));
}

TEST_CASE_FIXTURE(Fixture, "indices outside the rings break the channel off") {
  make_ready();
  SUBCASE("where the guest writes") {
    guest.outgoing.set_word(0, 3 * 4096);
    guest.signal();
  }
  SUBCASE("where it reads") {
    guest.incoming.set_word(4, 3 * 4096 + 8);
    CHECK(service.ask(8).error().code == Errc::corrupt);
    guest.turn();
  }
  CHECK(guest.is_broken());
}

TEST_CASE_FIXTURE(Fixture, "an answer that its service refuses breaks the channel off") {
  make_ready();
  service.judge = [](const auto&) -> Result<void> { return fail(Errc::corrupt, "it is no echo"); };
  REQUIRE_OK(service.ask(8));
  guest.send(guest.take().answer());
  CHECK(has_logged("it is no echo"));
  CHECK(service.report()["broken-by"] == "it is no echo");
}

TEST_CASE_FIXTURE(Fixture, "a guest that reads nothing is sent no more than its ring holds") {
  make_ready();
  REQUIRE_OK(service.ask(8000));
  REQUIRE_FAILS(Errc::busy, "does not read", service.ask(8000));
  CHECK_FALSE(guest.is_broken());
  guest.send(guest.take().answer());
  REQUIRE_OK(service.ask(8000));
}

TEST_CASE_FIXTURE(Fixture, "several packets at once are all read") {
  make_ready();
  for (int round = 0; round < 3; ++round) {
    REQUIRE_OK(service.ask(8));
    const ServiceMessage message = guest.take();
    for (int i = 0; i < 5; ++i) guest.put(6, message.answer().set(24, uint8_t{0xee}).bytes());
    guest.put(6, message.answer().bytes());
    guest.signal();
  }
  CHECK(service.events.size() == 3);
  CHECK_FALSE(guest.is_broken());
}

TEST_CASE_FIXTURE(Fixture, "a flood ends at the seventeenth message") {
  make_ready();
  for (int i = 0; i < 100; ++i) guest.put(6, ServiceMessage(8).bytes());
  guest.signal();
  CHECK(guest.is_broken());
  CHECK(guest.log.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a channel that was broken off, or closed, is opened anew") {
  make_ready();
  REQUIRE_OK(service.ask(8, guest.now() + std::chrono::seconds(1)));
  const ServiceMessage old = guest.take();
  SUBCASE("broken off") { guest.send_raw(6, Bytes(8)); }
  SUBCASE("closed") {}
  guest.close();
  CHECK(service.events == std::vector<std::string>{"ended"});
  CHECK_FALSE(service.ask(8));
  make_ready();
  CHECK(service.state() == Service::State::ready);
  // Nothing of before is left: not the time that was set, not the request.
  guest.pass(std::chrono::hours(1));
  CHECK(service.events.empty());
  REQUIRE_OK(service.ask(8));
  guest.send(guest.take().answer());
  CHECK(service.events.size() == 1);
  guest.send(old.answer());
  CHECK(service.events.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "a guest that is switched off loses its channel") {
  make_ready();
  REQUIRE_OK(service.ask(8));
  guest.leave();
  CHECK(service.events == std::vector<std::string>{"ended"});
  CHECK(service.is_gone());
  guest.attach(service);
}

TEST_CASE_FIXTURE(Fixture,
                  "a guest that does not run any more cannot be asked until it comes back") {
  make_ready();
  REQUIRE_OK(service.ask(8));
  const ServiceMessage asked = guest.take();
  service.guest_is_off();
  CHECK(service.events == std::vector<std::string>{"ended"});
  CHECK(service.next_time() == never);
  REQUIRE_FAILS(Errc::not_found, "does not use the service", service.ask(8));
  // A processor may be on its way yet.
  guest.send(asked.answer());
  CHECK(service.events == std::vector<std::string>{"ended"});
  CHECK_FALSE(guest.is_broken());
  guest.close();
  make_ready();
  REQUIRE_OK(service.ask(8));
}

TEST_CASE_FIXTURE(Fixture, "signals go to the processor that the guest has named last") {
  make_ready();
  guest.modify(3);
  guest.partition.collect_flags();
  REQUIRE_OK(service.ask(8));
  const auto flags = guest.partition.collect_flags();
  REQUIRE(flags.size() == 1);
  CHECK(flags[0].destination.vp == 3);
  CHECK(flags[0].destination.sint == 2);
  CHECK(flags[0].flag == guest.relid());
}

TEST_CASE("statuses are said by their names") {
  CHECK(to_string_of_status(0x80004005) == "status 0x80004005 (it failed)");
  CHECK(to_string_of_status(0x800704f7) == "status 0x800704f7 (somebody is using it)");
  CHECK(to_string_of_status(5) == "status 0x00000005");
}

}  // namespace
}  // namespace vhdkit::services
