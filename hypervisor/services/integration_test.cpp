#include "hypervisor/services/integration.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/services/guest.h"
#include "tests/support/await.h"

namespace vhdkit::services {
namespace {

using tests::ServiceGuest;
using tests::ServiceMessage;
using tests::version_word;

struct Fixture {
  Fixture() { REQUIRE_OK(integration.offer()); }
  ~Fixture() {
    guest.switch_off();
    integration.rescind();
    guest.turn();
    REQUIRE(integration.is_gone());
  }

  ServiceGuest guest{async::Engine::automatic};
  Integration integration{
      {.server = guest.host().server,
       .partition = guest.host().partition,
       .mailbox = guest.host().mailbox,
       .read_time = [] { return TimeReading{.host_time = 1, .reference_time = 2}; }}};
};

TEST_CASE_FIXTURE(Fixture, "five services are offered, by the classes that guests know") {
  guest.connect();
  std::vector<std::string> classes;
  for (const tests::Bytes& offer : guest.offers) {
    StoredGuid stored;
    std::memcpy(stored.bytes.data(), offer.data() + 8, 16);
    classes.push_back(Guid::from_stored(stored).to_string());
  }
  std::ranges::sort(classes);
  // Guest contract H.
  CHECK(classes == std::vector<std::string>{"0e0b6031-5213-4934-818b-38d90ced39db",
                                            "35fa2e29-ea23-4236-96ae-3a6ebacba440",
                                            "57164f39-9115-4e78-ab55-382f3bd5422d",
                                            "9527e630-d0ae-497b-adce-e80ab0175caf",
                                            "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6"});
}

TEST_CASE_FIXTURE(Fixture, "the status has all of them") {
  const auto before = integration.report();
  for (const char* name :
       {"shutdown", "heartbeat", "time-synchronization", "key-value-exchange", "volume-snapshot"})
    CHECK(before[name]["state"] == "offered");
  CHECK(before["heartbeat"]["guest"] == "unknown");
  guest.connect(0x0e0b6031);
  guest.open_with(version_word(3, 0), version_word(3, 1));
  const auto after = integration.report();
  CHECK(after["shutdown"]["state"] == "ready");
  CHECK(after["shutdown"]["version"] == "3.1");
  CHECK(after["heartbeat"]["state"] == "offered");
}

// The one case that takes real time: five seconds.
TEST_CASE_FIXTURE(Fixture, "services are woken by the mailbox's alarm") {
  guest.connect(0x57164f39);
  guest.open_with(version_word(3, 0), version_word(3, 0));
  const ServiceMessage first = guest.take();
  guest.send(first.answer().set_body(0, first.body<uint64_t>(0) + 1));
  CHECK_FALSE(guest.has_more());
  guest.run_until([this] { return guest.has_more(); }, std::chrono::seconds(20));
  const ServiceMessage second = guest.take();
  CHECK(second.body<uint64_t>(0) == first.body<uint64_t>(0) + 1);
  CHECK(integration.heartbeat().guest() == Heartbeat::Guest::running);
}

}  // namespace
}  // namespace vhdkit::services
