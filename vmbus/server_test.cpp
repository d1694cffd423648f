#include "vmbus/server.h"

#include <doctest/doctest.h>

#include <map>

#include "tests/support/await.h"
#include "vmbus/test_memory.h"
#include "vmbus/test_partition.h"

namespace vhdkit::vmbus {
namespace {

constexpr Guid scsi = Guid::literal("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f");
constexpr Guid instance = Guid::literal("11111111-2222-3333-4444-555555555555");

class TestDevice final : public ChannelDevice {
 public:
  Result<Doorbell*> open(OpenedChannel channel) override {
    if (refuses) return fail(Errc::busy, "not now");
    opened.emplace(std::move(channel));
    return &bell;
  }
  void close() override { ++close_count; }
  void retarget(uint32_t vp) override { opened->destination.vp = vp; }
  void released() override { ++released_count; }

  struct Bell final : Doorbell {
    void ring() noexcept override { ++ring_count; }
    std::optional<int> event() const noexcept override { return signal_event; }
    int ring_count = 0;
    static constexpr int signal_event = 77;
  };

  bool refuses = false;
  std::optional<OpenedChannel> opened;
  int close_count = 0;
  int released_count = 0;
  Bell bell;
};

// A message by the offsets of a guest's structures: 32-bit words, behind type and padding.
std::vector<std::byte> message(uint32_t type, const std::vector<uint32_t>& words,
                               size_t bytes = 0) {
  std::vector<std::byte> result;
  const auto put = [&](uint32_t value) {
    for (int i = 0; i < 4; ++i) result.push_back(std::byte(value >> (8 * i)));
  };
  put(type);
  put(0);
  for (const uint32_t word : words) put(word);
  if (bytes > 0) result.resize(bytes);
  return result;
}

uint32_t word(const std::vector<std::byte>& message, size_t offset) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t(message.at(offset + i)) << (8 * i);
  return value;
}

// A server and what stands around it, with a guest that says what Linux says.
struct Fixture {
  explicit Fixture(const ServerLimits& limits = {})
      : server(
            memory, partition, [this](const std::string& line) { log.push_back(line); }, limits) {}
  ~Fixture() {
    // Whatever is still open is left by a guest that goes.
    server.reset();
    for (auto& [relid, device] : devices)
      if (device.close_count > closed[relid]++) server.channel_closed(relid);
  }

  Relid offer(uint16_t index = 0, const Guid& which = instance) {
    const Offer offer{
        .interface_type = scsi, .interface_instance = which, .sub_channel_index = index};
    TestDevice& device = devices[Relid(devices.size() + 1)];
    const auto relid = server.offer(offer, device);
    REQUIRE_OK(relid);
    REQUIRE(&devices[*relid] == &device);
    return *relid;
  }
  void finish_closing(Relid relid) {
    REQUIRE(devices[relid].close_count == closed[relid] + 1);
    ++closed[relid];
    server.channel_closed(relid);
  }

  bool send(const std::vector<std::byte>& bytes) { return server.receive(bytes); }
  std::vector<std::byte> collect() {
    auto bytes = partition.collect();
    server.slot_is_free();
    return bytes;
  }
  std::vector<uint32_t> collect_types() {
    std::vector<uint32_t> types;
    for (auto bytes = collect(); !bytes.empty(); bytes = collect()) types.push_back(word(bytes, 0));
    return types;
  }
  void contact(uint32_t version) { CHECK(send(message(14, {version, 3, 2, 0, 0, 0, 0, 0}))); }
  void connect(uint32_t version = 0x50003) {
    contact(version);
    const auto response = collect();
    REQUIRE(response.size() == 16);
    REQUIRE(word(response, 0) == 15);
    REQUIRE((word(response, 8) & 0xff) == 1);
    CHECK(send(message(3, {})));
    while (word(collect(), 0) != 4) continue;
  }
  // Of page_count pages from first_page on.
  uint32_t make_gpadl(Relid relid, uint32_t gpadl, uint32_t page_count = 10,
                      uint32_t first_page = 0) {
    std::vector<uint32_t> words{relid, gpadl, (8 + 8 * page_count) | 1U << 16, page_count * 4096,
                                0};
    for (uint32_t i = 0; i < page_count; ++i) {
      words.push_back(first_page + i);
      words.push_back(0);
    }
    CHECK(send(message(8, words)));
    const auto created = collect();
    REQUIRE(created.size() == 20);
    CHECK(word(created, 0) == 10);
    CHECK(word(created, 8) == relid);
    CHECK(word(created, 12) == gpadl);
    return word(created, 16);
  }
  uint32_t open(Relid relid, uint32_t gpadl, uint32_t receiving_page = 5, uint32_t vp = 1) {
    CHECK(send(message(5, {relid, 77, gpadl, vp, receiving_page}, 148)));
    const auto result = collect();
    REQUIRE(result.size() == 20);
    CHECK(word(result, 0) == 6);
    CHECK(word(result, 8) == relid);
    CHECK(word(result, 12) == 77);
    return word(result, 16);
  }

  // With GPADL 1.
  void make_and_open(Relid relid) {
    CHECK(make_gpadl(relid, 1) == 0);
    CHECK(open(relid, 1) == 0);
  }

  TestMemory memory{100};
  TestPartition partition;
  std::vector<std::string> log;
  std::map<Relid, TestDevice> devices;
  std::map<Relid, int> closed;
  Server server;
};

TEST_CASE("versions that Linux and Windows 8 to 11 ask for are accepted, others answered with no") {
  for (const uint32_t version :
       {0x20004U, 0x30000U, 0x40000U, 0x40001U, 0x50000U, 0x50001U, 0x50002U, 0x50003U}) {
    CAPTURE(version);
    Fixture fixture;
    fixture.contact(version);
    const auto response = fixture.collect();
    REQUIRE(response.size() == 16);
    CHECK(word(response, 0) == 15);
    CHECK(word(response, 8) == 1);  // supported, state 0
    CHECK(word(response, 12) == (version >= 0x50000 ? 4 : 0));
    const Destination expected{.vp = 3, .sint = 2};
    CHECK(fixture.partition.message_destination == expected);
  }
  for (const uint32_t version : {0U, 0x0000dU, 0x10001U, 0x50004U, 0x60000U, 0xffffffffU}) {
    Fixture fixture;
    fixture.contact(version);
    CHECK(word(fixture.collect(), 8) == 0);
    CHECK(fixture.send(message(3, {})));
    CHECK(fixture.collect().empty());
    CHECK(fixture.log.size() == 1);
  }
}

TEST_CASE("offers carry what Linux reads of them") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  const Relid sub_channel = fixture.offer(1);
  fixture.contact(0x50003);
  fixture.collect();
  CHECK(fixture.send(message(3, {})));
  const auto first = fixture.collect();
  REQUIRE(first.size() == 196);
  CHECK(word(first, 0) == 1);
  CHECK(word(first, 8) == 0xba6163d9);
  CHECK(word(first, 12) == 0x4d2904a1);
  CHECK(word(first, 16) == 0xe27205b6);
  CHECK(word(first, 24) == 0x11111111);
  CHECK(word(first, 56) == 0);
  CHECK(word(first, 180) == 0);  // sub-channel
  CHECK(word(first, 184) == relid);
  CHECK(word(first, 188) == 0x000100ff);  // no monitor, an interrupt of its own
  CHECK(word(first, 192) == (0x2000 | relid));
  const auto second = fixture.collect();
  CHECK(word(second, 180) == 1);
  CHECK(word(second, 184) == sub_channel);
  CHECK(word(fixture.collect(), 0) == 4);
  // Hot add.
  const Relid third = fixture.offer(2);
  CHECK(word(fixture.collect(), 184) == third);
  const Offer again{.interface_type = scsi, .interface_instance = instance};
  TestDevice device;
  REQUIRE_FAILS(Errc::exists, "offered as 11111111-", fixture.server.offer(again, device));
}

TEST_CASE("a channel is opened over its own pages, signalled, closed and its pages given back") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  CHECK_FALSE(fixture.server.signal(0x2000 | relid));
  fixture.connect();
  CHECK(fixture.make_gpadl(relid, 0xe1e10) == 0);
  CHECK(fixture.open(relid, 0xe1e10) == 0);
  TestDevice& device = fixture.devices[relid];
  REQUIRE(device.opened);
  CHECK(device.opened->from_guest.data_bytes() == 4 * 4096);
  CHECK(device.opened->to_guest.data_bytes() == 4 * 4096);
  device.opened->to_guest.control(write_index_offset).store(8);
  CHECK(fixture.memory.page(5)[0] == std::byte{8});
  const Destination expected{.vp = 1, .sint = 2};
  CHECK(device.opened->destination == expected);

  CHECK(fixture.server.signal(0x2000 | relid));
  CHECK_FALSE(fixture.server.signal(0x2000 | (relid + 1)));
  CHECK_FALSE(fixture.server.signal(relid));
  CHECK_FALSE(fixture.server.signal(0xffffffff));
  CHECK(device.bell.ring_count == 1);
  const std::map<uint32_t, int> expected_events{{0x2000 | relid, TestDevice::Bell::signal_event}};
  CHECK(fixture.partition.signal_events == expected_events);

  CHECK(fixture.send(message(22, {relid, 6})));
  CHECK(word(fixture.collect(), 12) == 0);
  CHECK(device.opened->destination.vp == 6);

  CHECK(fixture.send(message(7, {relid})));
  CHECK(device.close_count == 1);
  CHECK_FALSE(fixture.server.signal(0x2000 | relid));
  CHECK(fixture.partition.signal_events.empty());
  // The pages are the device's until it has finished.
  CHECK(fixture.send(message(11, {relid, 0xe1e10})));
  CHECK(fixture.collect().empty());
  fixture.finish_closing(relid);
  const auto torn_down = fixture.collect();
  REQUIRE(torn_down.size() == 12);
  CHECK(word(torn_down, 0) == 12);
  CHECK(word(torn_down, 8) == 0xe1e10);
  CHECK(fixture.log.empty());
  // And once more.
  CHECK(fixture.make_gpadl(relid, 0xe1e10) == 0);
  CHECK(fixture.open(relid, 0xe1e10) == 0);
}

TEST_CASE("modify_channel is answered from 5.3 on, and unknown before 4.1") {
  for (const auto& [version, answers, moves] :
       {std::tuple(0x50003U, true, true), std::tuple(0x50002U, false, true),
        std::tuple(0x40001U, false, true), std::tuple(0x40000U, false, false)}) {
    CAPTURE(version);
    Fixture fixture;
    const Relid relid = fixture.offer();
    fixture.connect(version);
    fixture.make_and_open(relid);
    CHECK(fixture.send(message(22, {relid, 6})));
    CHECK(fixture.collect().empty() == !answers);
    CHECK(fixture.devices[relid].opened->destination.vp == (moves ? 6 : 1));
  }
}

TEST_CASE("openings that contradict the protocol fail, and the guest is told") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  const Relid other = fixture.offer(1);
  fixture.connect();
  CHECK(fixture.make_gpadl(relid, 1) == 0);
  CHECK(fixture.make_gpadl(other, 2) == 0);
  CHECK(fixture.open(relid, 3) != 0);      // no such memory
  CHECK(fixture.open(relid, 2) != 0);      // another channel's
  CHECK(fixture.open(relid, 1, 0) != 0);   // no room for the first ring
  CHECK(fixture.open(relid, 1, 1) != 0);   // only its control page
  CHECK(fixture.open(relid, 1, 9) != 0);   // only the second one's
  CHECK(fixture.open(relid, 1, 10) != 0);  // none
  CHECK(fixture.open(relid, 1, 0x80000000) != 0);
  CHECK(fixture.open(44, 1) != 0);
  fixture.devices[relid].refuses = true;
  CHECK(fixture.open(relid, 1) != 0);
  CHECK_FALSE(fixture.devices[relid].opened);
  fixture.devices[relid].refuses = false;
  CHECK(fixture.open(relid, 1) == 0);
  CHECK(fixture.open(relid, 1) != 0);  // open already
  CHECK(fixture.log.size() == 10);
}

TEST_CASE("memory that the guest takes back while it is used closes the channel first") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  fixture.connect();
  fixture.make_and_open(relid);
  CHECK(fixture.send(message(11, {relid, 1})));
  CHECK(fixture.collect().empty());
  CHECK(fixture.log.size() == 1);
  CHECK(fixture.send(message(7, {relid})));
  fixture.finish_closing(relid);
  CHECK(word(fixture.collect(), 0) == 12);
  // Of others' or of none it takes nothing.
  CHECK(fixture.send(message(11, {relid, 1})));
  CHECK(fixture.make_gpadl(relid, 9) == 0);
  CHECK(fixture.send(message(11, {relid + 1, 9})));
  CHECK(fixture.collect().empty());
  CHECK(fixture.send(message(11, {relid, 9})));
  CHECK(word(fixture.collect(), 0) == 12);
}

TEST_CASE("an offer that is taken back is gone once the guest has let it go") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  fixture.connect();
  fixture.make_and_open(relid);
  fixture.server.rescind(relid);
  const auto rescind = fixture.collect();
  REQUIRE(rescind.size() == 12);
  CHECK(word(rescind, 0) == 2);
  CHECK(word(rescind, 8) == relid);
  CHECK(fixture.devices[relid].close_count == 0);
  CHECK(fixture.send(message(7, {relid})));
  fixture.finish_closing(relid);
  CHECK(fixture.devices[relid].released_count == 0);
  CHECK(fixture.open(relid, 1) != 0);
  CHECK(fixture.send(message(13, {relid})));
  CHECK(fixture.devices[relid].released_count == 1);
  CHECK(fixture.make_gpadl(relid, 2) != 0);
  // Its number is free again.
  TestDevice next;
  const auto again = fixture.server.offer({.interface_type = scsi}, next);
  REQUIRE_OK(again);
  CHECK(*again == relid);
  CHECK(word(fixture.collect(), 0) == 1);
  fixture.server.rescind(*again);
  CHECK(fixture.send(message(13, {*again})));
  CHECK(next.released_count == 1);
}

TEST_CASE("a guest may release an open channel") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  fixture.connect();
  fixture.make_and_open(relid);
  fixture.server.rescind(relid);
  CHECK(fixture.send(message(13, {relid})));
  CHECK(fixture.devices[relid].close_count == 1);
  CHECK(fixture.devices[relid].released_count == 0);
  fixture.finish_closing(relid);
  CHECK(fixture.devices[relid].released_count == 1);
}

TEST_CASE("who makes contact again or unloads begins anew, once its channels are closed") {
  for (const bool unloads : {false, true}) {
    Fixture fixture;
    const Relid relid = fixture.offer();
    fixture.connect();
    fixture.make_and_open(relid);
    const Relid leaving = fixture.offer(1);
    fixture.server.rescind(leaving);
    CHECK(fixture.collect_types() == std::vector<uint32_t>{1, 2});
    if (unloads) {
      CHECK(fixture.send(message(16, {})));
    } else {
      fixture.contact(0x40000);
    }
    CHECK(fixture.collect().empty());
    CHECK(fixture.send(message(3, {})));  // too early
    CHECK(fixture.collect().empty());
    CHECK_FALSE(fixture.server.is_quiet());
    fixture.finish_closing(relid);
    CHECK(fixture.collect_types() == std::vector<uint32_t>{unloads ? 17U : 15U});
    CHECK(fixture.devices[leaving].released_count == 1);
    if (unloads) fixture.contact(0x40000);
    fixture.collect_types();
    CHECK(fixture.send(message(3, {})));
    CHECK(fixture.collect_types() == std::vector<uint32_t>{1, 4});
    CHECK(fixture.make_gpadl(relid, 1) == 0);  // nothing is left of the first one
    CHECK(fixture.open(relid, 1) == 0);
  }
}

TEST_CASE("a device that breaks a channel off leaves it to be opened anew") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  fixture.connect();
  fixture.make_and_open(relid);
  fixture.server.break_off(relid, "a packet of type 99");
  fixture.server.break_off(relid, "another");
  REQUIRE(fixture.log.size() == 1);
  CHECK(fixture.log[0] == "channel 1: a packet of type 99; it is closed");
  fixture.finish_closing(relid);
  CHECK(fixture.open(relid, 1) == 0);
}

TEST_CASE(
    "answers wait in order while the slot is taken, and a guest that never looks is not heard") {
  Fixture fixture({.waiting_message_count = 5});
  const Relid relid = fixture.offer();
  fixture.connect();
  int heard = 0;
  while (fixture.send(message(8, {relid, 1, 16 | 2U << 16, 4096, 0, 1, 0}))) ++heard;
  CHECK(heard == 6);  // one in the slot, five behind it
  for (int i = 0; i < 6; ++i) CHECK(word(fixture.collect(), 16) != 0);
  CHECK(fixture.collect().empty());
  CHECK(fixture.send(message(3, {})));
}

TEST_CASE("messages that are cut off, unknown or early do nothing") {
  Fixture fixture;
  const Relid relid = fixture.offer();
  for (const uint32_t type : {3U, 5U, 7U, 8U, 9U, 11U, 13U, 22U})
    CHECK(fixture.send(message(type, {relid}, 240)));
  fixture.connect();
  const size_t early = fixture.log.size();
  CHECK(early == 8);
  for (const uint32_t type : {5U, 7U, 8U, 9U, 11U, 13U, 14U, 22U})
    for (const size_t length : {0, 1, 7, 8, 11})
      CHECK(fixture.send([&] {
        auto bytes = message(type, {relid, 1});
        bytes.resize(length);
        return bytes;
      }()));
  for (const uint32_t type : {0U, 1U, 2U, 4U, 6U, 10U, 12U, 15U, 17U, 18U, 21U, 0xffffffffU})
    CHECK(fixture.send(message(type, {relid}, 240)));
  CHECK(fixture.collect().empty());
  CHECK(fixture.log.size() == early + 40 + 12);
  for (int i = 0; i < 1000; ++i) CHECK(fixture.send({}));
  CHECK(fixture.log.size() == Server::log_limit);
}

}  // namespace
}  // namespace vhdkit::vmbus
