#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "disk/exchangeable_disk.h"
#include "disk/ram_disk.h"
#include "tests/support/await.h"
#include "tests/vsp/filled_disk.h"
#include "tests/vsp/guest.h"
#include "tests/vsp/shared_memory_disk.h"
#include "vsp-storage/scsi/disk_unit.h"
#include "vsp-storage/storvsp/remote_disk.h"

namespace vhdkit::tests {
namespace {

constexpr uint64_t disk_bytes = 64 << 20;
constexpr uint8_t good = 0;
constexpr uint8_t check_condition = 2;
constexpr uint8_t srb_success = 0x01;
constexpr uint8_t srb_error_with_sense = 0x84;
constexpr uint8_t srb_overrun = 0x12;
constexpr uint8_t srb_invalid_lun = 0x20;

Bytes bytes(std::initializer_list<int> values) {
  Bytes result;
  for (const int value : values) result.push_back(std::byte(value));
  return result;
}

const Bytes test_unit_ready = bytes({0x00, 0, 0, 0, 0, 0});
const Bytes inquiry_36 = bytes({0x12, 0, 0, 0, 36, 0});

Bytes transfer_10(int operation, uint32_t block, uint16_t count) {
  return bytes({operation, 0, int(block >> 24), int(block >> 16 & 0xff), int(block >> 8 & 0xff),
                int(block & 0xff), 0, count >> 8, count & 0xff, 0});
}
Bytes read_10(uint32_t block, uint16_t count) { return transfer_10(0x28, block, count); }
Bytes write_10(uint32_t block, uint16_t count) { return transfer_10(0x2a, block, count); }

Bytes pattern(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes result(size);
  for (std::byte& byte : result) byte = std::byte(random());
  return result;
}

std::shared_ptr<scsi::LogicalUnit> make_unit() {
  return std::make_shared<scsi::DiskUnit>(scsi::DiskUnitOptions());
}

std::shared_ptr<disk::Disk> memory_disk() { return std::make_shared<SharedMemoryDisk>(disk_bytes); }

// A host with a disk at LUN 0, and a guest that has its controller's first channel open.
// In the ring: a header, the packet, a trailer.
constexpr uint64_t completion_bytes = 16 + 64 + 8;

struct Machine {
  explicit Machine(const Host::Options& options = {}) : host(options), guest(host) {
    REQUIRE_OK(host.attach(0, make_unit(), memory_disk()));
    offers = guest.connect();
    REQUIRE(offers.size() == 1);
    channel = guest.open(offers[0]);
  }
  void begin() {
    channel->initialize();
    // The unit says once that it was switched on.
    CHECK(channel->execute({}, test_unit_ready).scsi_status == check_condition);
    CHECK(channel->execute({}, test_unit_ready).scsi_status == good);
  }

  Host host;
  Guest guest;
  std::vector<Guest::Offer> offers;
  std::unique_ptr<GuestChannel> channel;
};

TEST_CASE("hv_storvsc's initialization, with every version that Linux and Windows ask for") {
  for (const int number : {0x0200, 0x0402, 0x0501, 0x0600, 0x0602}) {
    const auto version = uint16_t(number);
    CAPTURE(version);
    Machine machine({.controller = {.max_sub_channel_count = 3}});
    const auto properties = machine.channel->initialize(version);
    CHECK(properties.max_transfer_bytes >= 1 << 20);
    CHECK(properties.max_sub_channel_count == (version >= 0x0501 ? 3 : 0));
    CHECK(properties.flags == (version >= 0x0501 ? 1 : 0));
  }
}

TEST_CASE("what comes out of order, or is unknown, is answered with a failure") {
  Machine machine;
  const auto status_of = [&](uint32_t operation, uint16_t value = 0) {
    Fields packet(64);
    packet.set(0, operation).set(12, value);
    return machine.channel->exchange(packet.bytes()).get<uint32_t>(8);
  };
  CHECK(status_of(9, 0x0602) != 0);
  CHECK(status_of(10) != 0);
  CHECK(status_of(8) != 0);
  CHECK(status_of(3) != 0);
  CHECK(status_of(7) == 0);
  CHECK(status_of(7) != 0);
  CHECK(status_of(9, 0x0700) == 0xc0000059);
  CHECK(status_of(9, 0x0100) == 0xc0000059);
  CHECK(status_of(9, 0x0600) == 0);
  CHECK(status_of(13, 1) != 0);
  CHECK(status_of(8) == 0);
  CHECK(status_of(13, 1) != 0);  // this controller has none
  for (const uint32_t operation : {0U, 1U, 2U, 11U, 12U, 14U, 0xffffffffU})
    CHECK(status_of(operation) != 0);
  CHECK(machine.channel->execute({}, inquiry_36, GuestChannel::read, machine.guest.take_buffer(36))
            .scsi_status == good);
}

TEST_CASE("blocks that are written are read again, from any place in the guest's pages") {
  Machine machine;
  machine.begin();
  GuestBuffer out = machine.guest.take_buffer(9 * 4096);
  std::reverse(out.pages.begin(), out.pages.end());
  out.byte_offset = 512;
  out.byte_count = 8 * 4096;
  const Bytes content = pattern(out.byte_count, 1);
  machine.guest.fill(out, content);
  const auto written = machine.channel->execute({}, write_10(100, 64), GuestChannel::write, out);
  CHECK(written.scsi_status == good);
  CHECK(written.srb_status == srb_success);
  CHECK(written.data_transfer_length == out.byte_count);

  const GuestBuffer in = machine.guest.take_buffer(8 * 4096);
  const auto read = machine.channel->execute({}, read_10(100, 64), GuestChannel::read, in);
  CHECK(read.srb_status == srb_success);
  CHECK(read.data_transfer_length == in.byte_count);
  CHECK(machine.guest.content(in) == content);

  // A mebibyte in one request.
  const GuestBuffer large = machine.guest.take_buffer(1 << 20);
  const Bytes much = pattern(1 << 20, 2);
  machine.guest.fill(large, much);
  CHECK(machine.channel->execute({}, write_10(4096, 2048), GuestChannel::write, large)
            .data_transfer_length == 1 << 20);
  machine.guest.fill(large, Bytes(1 << 20));
  CHECK(machine.channel->execute({}, read_10(4096, 2048), GuestChannel::read, large).srb_status ==
        srb_success);
  CHECK(machine.guest.content(large) == much);
}

TEST_CASE("errors come with their sense, and what does not fit into the buffer is an overrun") {
  Machine machine;
  machine.begin();
  const GuestBuffer buffer = machine.guest.take_buffer(4096);
  const auto beyond =
      machine.channel->execute({}, read_10(disk_bytes / 512, 8), GuestChannel::read, buffer);
  CHECK(beyond.srb_status == srb_error_with_sense);
  CHECK(beyond.scsi_status == check_condition);
  REQUIRE(beyond.sense.size() >= 14);
  CHECK((beyond.sense[2] & std::byte{0xf}) == std::byte{5});
  CHECK(beyond.sense[12] == std::byte{0x21});
  const auto more = machine.channel->execute({}, read_10(0, 16), GuestChannel::read, buffer);
  CHECK(more.srb_status == srb_overrun);
  CHECK(more.data_transfer_length == 4096);
}

TEST_CASE("units that are not there answer so that Linux makes no disks of them") {
  Machine machine;
  machine.begin();
  const GuestBuffer buffer = machine.guest.take_buffer(36);
  for (const GuestChannel::Address address :
       {GuestChannel::Address{0, 0, 1}, {0, 0, 63}, {0, 0, 255}, {0, 1, 0}, {7, 0, 0}, {1, 1, 5}}) {
    machine.guest.fill(buffer, Bytes(36, std::byte{0xee}));
    const auto inquiry = machine.channel->execute(address, inquiry_36, GuestChannel::read, buffer);
    CHECK(inquiry.srb_status == srb_success);
    CHECK(machine.guest.content(buffer)[0] == std::byte{0x7f});
    // Elsewhere Linux would remove the first unit.
    const bool is_at_the_units = address.path == 0 && address.target == 0;
    CHECK(machine.channel->execute(address, test_unit_ready).srb_status ==
          (is_at_the_units ? srb_invalid_lun : srb_error_with_sense));
  }
}

TEST_CASE("a unit gets another disk, and goes on counting") {
  Machine machine({.worker_count = 2});
  machine.begin();
  const GuestBuffer buffer = machine.guest.take_buffer(4096);
  const Bytes content = pattern(4096, 1);
  machine.guest.fill(buffer, content);
  machine.channel->execute({}, write_10(0, 8), GuestChannel::write, buffer);
  const auto requests = [&] { return machine.host.report()["units"][0]["requests"].get<int>(); };
  const int before = requests();
  REQUIRE_OK(machine.host.exchange(0, memory_disk()));
  CHECK(machine.channel->execute({}, read_10(0, 8), GuestChannel::read, buffer).srb_status ==
        srb_success);
  CHECK(machine.guest.content(buffer) == Bytes(4096));
  CHECK(requests() == before + 1);
  REQUIRE_FAILS(Errc::not_found, "LUN 5", machine.host.exchange(5, memory_disk()));
}

TEST_CASE("units that come and go are announced, and what is gone can be told from what is there") {
  Machine machine;
  machine.begin();
  REQUIRE_OK(machine.host.attach(5, make_unit(), memory_disk()));
  const auto announcement = machine.channel->receive();
  CHECK(announcement.type == 6);
  CHECK(announcement.transaction_id == 0);
  CHECK(announcement.packet.get<uint32_t>(0) == 11);
  machine.channel->execute({.lun = 5}, test_unit_ready);
  CHECK(machine.channel->execute({.lun = 5}, test_unit_ready).scsi_status == good);
  const GuestBuffer buffer = machine.guest.take_buffer(4096);
  const Bytes report_luns = bytes({0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0});
  CHECK(machine.channel->execute({}, report_luns, GuestChannel::read, buffer).srb_status ==
        srb_success);
  CHECK(machine.guest.content(buffer)[3] == std::byte{16});
  REQUIRE_OK(machine.host.detach(5));
  CHECK(machine.channel->receive().packet.get<uint32_t>(0) == 11);
  CHECK(machine.channel->execute({.lun = 5}, test_unit_ready).srb_status == srb_invalid_lun);
  REQUIRE_FAILS(Errc::not_found, "5", machine.host.detach(5));
  REQUIRE_FAILS(Errc::exists, "0", machine.host.attach(0, make_unit(), memory_disk()));
}

TEST_CASE("resets are heard by the unit's initiators") {
  for (const uint32_t operation : {4U, 5U, 6U}) {
    Machine machine;
    machine.begin();
    Fields packet(64);
    packet.set(0, operation);
    CHECK(machine.channel->exchange(packet.bytes()).get<uint32_t>(8) == 0);
    const auto attention = machine.channel->execute({}, test_unit_ready);
    REQUIRE(attention.sense.size() >= 14);
    CHECK(attention.sense[12] == std::byte{0x29});
    CHECK(machine.channel->execute({}, test_unit_ready).scsi_status == good);
  }
}

// A machine whose LUN 1 has moved all that it may for more than an hour, and eight writes that
// wait.
struct ThrottledMachine : Machine {
  static constexpr uint64_t first_waiting = 100;
  static constexpr uint64_t waiting_count = 8;

  ThrottledMachine()
      : limit(std::make_shared<storvsp::Throttle>(host.worker(0),
                                                  storvsp::Limits{.bytes_per_second = 1}, 1)) {
    begin();
    REQUIRE_OK(host.attach(1, make_unit(), memory_disk(), {{.throttle = limit, .line = 0}}));
    CHECK(channel->receive().packet.get<uint32_t>(0) == 11);
    CHECK(channel->execute({.lun = 1}, test_unit_ready).scsi_status == check_condition);
    buffer = guest.take_buffer(4096);
    guest.fill(buffer, pattern(4096, 1));
    REQUIRE(channel->execute({.lun = 1}, write_10(0, 8), GuestChannel::write, buffer).srb_status ==
            srb_success);
    guest.fill(buffer, pattern(4096, 2));
    for (uint64_t i = 0; i < waiting_count; ++i)
      channel->send(first_waiting + i,
                    GuestChannel::srb({.lun = 1}, write_10(0, 8), GuestChannel::write, 4096),
                    &buffer);
  }
  void check_all_are_aborted() {
    for (uint64_t i = 0; i < waiting_count; ++i) {
      const auto received = channel->receive();
      CHECK(received.transaction_id == first_waiting + i);
      const auto result = GuestChannel::result_of(received.packet);
      CHECK(result.srb_status == srb_error_with_sense);
      REQUIRE(result.sense.size() >= 14);
      CHECK((result.sense[2] & std::byte{0xf}) == std::byte{0xb});
    }
  }

  std::shared_ptr<storvsp::Throttle> limit;
  GuestBuffer buffer;
};

TEST_CASE("a reset aborts what waits for a limit, and nothing of it is done") {
  ThrottledMachine machine;
  Fields reset(64);
  reset.set(0, uint32_t{4}).set(19, uint8_t{1});
  CHECK(machine.channel->exchange(reset.bytes()).get<uint32_t>(8) == 0);
  machine.check_all_are_aborted();
  machine.limit->set_limits({});
  machine.channel->execute({.lun = 1}, test_unit_ready);  // says that there was a reset
  CHECK(machine.channel->execute({.lun = 1}, read_10(0, 8), GuestChannel::read, machine.buffer)
            .srb_status == srb_success);
  CHECK(machine.guest.content(machine.buffer) == pattern(4096, 1));
}

TEST_CASE("a reset of another unit leaves what waits for a limit where it is") {
  ThrottledMachine machine;
  Fields reset(64);
  reset.set(0, uint32_t{4}).set(19, uint8_t{0});
  CHECK(machine.channel->exchange(reset.bytes()).get<uint32_t>(8) == 0);
  machine.limit->turn_away(0);
  machine.check_all_are_aborted();
}

TEST_CASE("neither a unit that goes nor a channel that is closed waits for a limit") {
  {
    ThrottledMachine machine;
    // A command for which there is no limit: what was sent before it waits by now.
    machine.channel->execute({}, test_unit_ready);
    REQUIRE_OK(machine.host.detach(1));
    machine.check_all_are_aborted();
  }
  const ThrottledMachine closed_while_they_wait;
}

TEST_CASE("an accelerated IDE disk is found at whatever path and target the guest names") {
  Host::Options options;
  options.controller.variant = storvsp::Variant::ide;
  Machine machine(options);
  CHECK(machine.offers[0].interface_type ==
        bytes({0x32, 0x26, 0x41, 0x32, 0xcb, 0x86, 0xa2, 0x44, 0x9b, 0x5c, 0x50, 0xd1, 0x41, 0x73,
               0x54, 0xf5}));
  machine.channel->initialize();
  machine.channel->execute({.path = 1, .target = 1}, test_unit_ready);
  CHECK(machine.channel->execute({.path = 1, .target = 1}, test_unit_ready).scsi_status == good);
}

// Random blocks of its own part of the disk, checked as they come back.
void read_and_write(Guest& guest, GuestChannel& channel, const GuestBuffer& buffer,
                    uint32_t first_block, uint32_t block_count, int request_count) {
  std::mt19937 random(first_block);
  std::map<uint32_t, uint64_t> written;
  for (int i = 0; i < request_count; ++i) {
    const uint32_t block = first_block + uint32_t(random() % (block_count / 8) * 8);
    if (random() % 2 == 0) {
      written[block] = random();
      guest.fill(buffer, pattern(4096, written[block]));
      REQUIRE(channel.execute({}, write_10(block, 8), GuestChannel::write, buffer).srb_status ==
              srb_success);
    } else {
      REQUIRE(channel.execute({}, read_10(block, 8), GuestChannel::read, buffer).srb_status ==
              srb_success);
      const Bytes expected = written.contains(block) ? pattern(4096, written[block]) : Bytes(4096);
      REQUIRE(guest.content(buffer) == expected);
    }
  }
}

// A guest with its controller's channels open, all of them ready.
struct Channels {
  Channels(Host& host, unsigned sub_channel_count) : guest(host) {
    const auto offers = guest.connect();
    list.push_back(guest.open(offers.at(0)));
    list[0]->initialize();
    list[0]->execute({}, test_unit_ready);
    CHECK(list[0]->exchange(create(sub_channel_count)).get<uint32_t>(8) == 0);
    std::vector<Guest::Offer> further;
    for (unsigned i = 0; i < sub_channel_count; ++i) further.push_back(guest.take_offer());
    for (unsigned i = 0; i < sub_channel_count; ++i) {
      CHECK(further[i].sub_channel_index == i + 1);
      CHECK(further[i].interface_type == offers[0].interface_type);
      list.push_back(guest.open(further[i], i + 1));
    }
  }

  static Bytes create(unsigned count) {
    Fields packet(64);
    return packet.set(0, uint32_t{13}).set(12, uint16_t(count)).bytes();
  }

  // Each on a thread of its own, with a part of the disk of its own.
  void read_and_write_all(int request_count) {
    std::vector<GuestBuffer> buffers;
    for (size_t i = 0; i < list.size(); ++i) buffers.push_back(guest.take_buffer(4096));
    std::vector<std::thread> threads;
    for (size_t i = 0; i < list.size(); ++i)
      threads.emplace_back([&, i] {
        read_and_write(guest, *list[i], buffers[i], uint32_t(i * 4096), 4096, request_count);
      });
    for (auto& thread : threads) thread.join();
  }

  Guest guest;
  std::vector<std::unique_ptr<GuestChannel>> list;
};

TEST_CASE("sub-channels carry requests of their own, on several threads, and go with the first") {
  Host host({.worker_count = 2, .controller = {.max_sub_channel_count = 3}});
  REQUIRE_OK(host.attach(0, make_unit(), memory_disk()));
  Channels channels(host, 3);
  CHECK(channels.list[0]->exchange(Channels::create(3)).get<uint32_t>(8) != 0);
  channels.read_and_write_all(300);
  const auto report = host.report();
  CHECK(report["channels"].size() == 4);
  CHECK(report["units"][0]["requests"].get<int>() == 1 + 4 * 300);
  for (size_t i = channels.list.size(); i-- > 0;) channels.guest.close(*channels.list[i]);
  CHECK(host.log().empty());
}

TEST_CASE("further channels are offered anew before the guest has let go of those before") {
  Host host({.controller = {.max_sub_channel_count = 1}});
  REQUIRE_OK(host.attach(0, make_unit(), memory_disk()));
  Guest guest(host);
  const auto offers = guest.connect();
  const auto open_both = [&] {
    auto first = guest.open(offers.at(0));
    first->initialize();
    first->execute({}, test_unit_ready);
    CHECK(first->exchange(Channels::create(1)).get<uint32_t>(8) == 0);
    return first;
  };
  auto first = open_both();
  const Guest::Offer old_offer = guest.take_offer();
  guest.close(*first);
  first = open_both();
  const Guest::Offer new_offer = guest.take_offer();
  CHECK(new_offer.relid != old_offer.relid);
  const auto second = guest.open(new_offer);
  CHECK(second->execute({}, test_unit_ready).srb_status == srb_success);
  guest.release(old_offer);
  CHECK(second->execute({}, test_unit_ready).srb_status == srb_success);
  CHECK(host.report()["channels"].size() == 2);
  guest.close(*second);
  guest.close(*first);
  CHECK(host.log().empty());
}

// Two terabytes, by VERIFY(16).
const Bytes verify_most = bytes({0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0});

TEST_CASE("a command that takes hours holds up no other, and ends with its unit or its channel") {
  Machine machine;
  machine.begin();
  constexpr uint8_t luns[] = {1, 2};
  for (const uint8_t lun : luns) {
    const auto endless = std::make_shared<FilledDisk>(uint64_t{4} << 40, std::byte{0});
    REQUIRE_OK(machine.host.attach(lun, make_unit(), endless));
    CHECK(machine.channel->receive().packet.get<uint32_t>(0) == 11);
  }
  for (const uint8_t lun : luns) {
    while (machine.channel->execute({.lun = lun}, test_unit_ready).scsi_status != good) {
    }
    machine.channel->send(lun, GuestChannel::srb({.lun = lun}, verify_most, GuestChannel::none, 0));
  }
  while (machine.channel->execute({}, test_unit_ready).scsi_status != good) {
  }
  REQUIRE_OK(machine.host.detach(1));
  const auto ended = machine.channel->receive();
  const auto told = machine.channel->receive();
  const auto& aborted = ended.type == 11 ? ended : told;
  CHECK(aborted.transaction_id == 1);
  CHECK(GuestChannel::result_of(aborted.packet).srb_status == srb_error_with_sense);
  CHECK((GuestChannel::result_of(aborted.packet).sense[2] & std::byte{0xf}) == std::byte{0xb});
  machine.guest.close(*machine.channel);
}

TEST_CASE("what a command reads beside its buffers counts for a limit") {
  ThrottledMachine machine;
  // A command for which there is no limit: what was sent before it waits by now.
  machine.channel->execute({}, test_unit_ready);
  machine.limit->turn_away(0);
  machine.check_all_are_aborted();
  const Bytes verify = bytes({0x2f, 0, 0, 0, 0, 0, 0, 0, 8, 0});
  machine.channel->send(7, GuestChannel::srb({.lun = 1}, verify, GuestChannel::none, 0));
  // It waits at some time.
  std::optional<GuestChannel::Received> received;
  while (!received) {
    machine.limit->turn_away(0);
    received = machine.channel->try_receive();
  }
  CHECK(received->transaction_id == 7);
  CHECK(GuestChannel::result_of(received->packet).srb_status == srb_error_with_sense);
}

TEST_CASE("a channel that is closed leaves what other channels have waiting for a limit") {
  Host host({.worker_count = 2, .controller = {.max_sub_channel_count = 1}});
  const auto limit = std::make_shared<storvsp::Throttle>(host.worker(0),
                                                         storvsp::Limits{.bytes_per_second = 1}, 1);
  REQUIRE_OK(host.attach(0, make_unit(), memory_disk(), {{.throttle = limit, .line = 0}}));
  Channels channels(host, 1);
  const GuestBuffer buffer = channels.guest.take_buffer(4096);
  REQUIRE(channels.list[0]->execute({}, read_10(0, 8), GuestChannel::read, buffer).srb_status ==
          srb_success);
  for (const auto& channel : channels.list) {
    channel->send(7, GuestChannel::srb({}, read_10(0, 8), GuestChannel::read, 4096), &buffer);
    channel->execute({.lun = 5}, test_unit_ready);  // no limit there: the read waits by now
  }
  channels.guest.close(*channels.list[1]);
  limit->set_limits({});
  const auto received = channels.list[0]->receive();
  CHECK(received.transaction_id == 7);
  CHECK(GuestChannel::result_of(received.packet).srb_status == srb_success);
}

TEST_CASE("a disk that knows one loop is reached from the channels of all workers") {
  Host host({.worker_count = 3, .controller = {.max_sub_channel_count = 2}});
  const auto disk = std::make_shared<disk::RamDisk>(disk::Geometry{.size_bytes = disk_bytes});
  REQUIRE_OK(host.attach(
      0, {.unit = make_unit(), .views = storvsp::views_of(disk, 1, host.workers()), .shares = {}}));
  Channels channels(host, 2);
  channels.read_and_write_all(300);
  const GuestBuffer buffer = channels.guest.take_buffer(4096);
  const auto beyond =
      channels.list[0]->execute({}, read_10(disk_bytes / 512, 8), GuestChannel::read, buffer);
  CHECK(beyond.srb_status == srb_error_with_sense);
  const Bytes synchronize_cache = bytes({0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  CHECK(channels.list[0]->execute({}, synchronize_cache).scsi_status == good);
}

Async<void> hold(disk::ExchangeableDisk& disk) {
  co_await disk.hold();
  co_return Result<void>();
}

// By READ CAPACITY(16), on the worker of this channel.
uint64_t capacity_of(Guest& guest, GuestChannel& channel, const GuestBuffer& buffer) {
  const Bytes read_capacity = bytes({0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0});
  REQUIRE(channel.execute({}, read_capacity, GuestChannel::read, buffer).srb_status == srb_success);
  const Bytes capacity = guest.content(buffer);
  uint64_t last_block = 0;
  for (const std::byte byte : std::span(capacity).first(8))
    last_block = last_block << 8 | uint64_t(byte);
  return (last_block + 1) * 512;
}

TEST_CASE("another capacity is seen by all workers, and the guest is told") {
  constexpr uint64_t small_bytes = disk_bytes / 2;
  disk::RamDisk large(disk::Geometry{.size_bytes = disk_bytes});
  disk::RamDisk small(disk::Geometry{.size_bytes = small_bytes});
  Host host({.worker_count = 3, .controller = {.max_sub_channel_count = 2}});
  const auto disk = std::make_shared<disk::ExchangeableDisk>(large);
  REQUIRE_OK(host.attach(
      0, {.unit = make_unit(), .views = storvsp::views_of(disk, 1, host.workers()), .shares = {}}));
  Channels channels(host, 2);
  const GuestBuffer buffer = channels.guest.take_buffer(4096);
  const GuestBuffer answer = channels.guest.take_buffer(32);
  const Bytes behind_end = read_10(small_bytes / 512, 8);
  for (const auto& channel : channels.list) {
    CHECK(capacity_of(channels.guest, *channel, answer) == disk_bytes);
    CHECK(channel->execute({}, behind_end, GuestChannel::read, buffer).srb_status == srb_success);
  }
  const auto is_out_of_range = [&](GuestChannel& channel) {
    const auto beyond = channel.execute({}, behind_end, GuestChannel::read, buffer);
    REQUIRE(beyond.sense.size() >= 14);
    return beyond.srb_status == srb_error_with_sense && beyond.sense[2] == std::byte{5} &&
           beyond.sense[12] == std::byte{0x21};
  };

  REQUIRE_OK(host.worker(1).await([&] { return hold(*disk); }));
  host.worker(1).run([&] { disk->go_on(small); });
  // Of views that have the old size, too.
  for (const auto& channel : channels.list) CHECK(is_out_of_range(*channel));

  REQUIRE_OK(host.change_capacity(0, storvsp::views_of(disk, 1, host.workers())));
  CHECK(channels.list[0]->receive().packet.get<uint32_t>(0) == 11);
  // The guest is one initiator, on whichever channel.
  const auto told = channels.list[2]->execute({}, test_unit_ready);
  REQUIRE(told.sense.size() >= 14);
  CHECK(told.srb_status == srb_error_with_sense);
  CHECK(told.sense[2] == std::byte{6});
  CHECK(told.sense[12] == std::byte{0x2a});
  CHECK(told.sense[13] == std::byte{0x09});
  for (const auto& channel : channels.list) {
    CHECK(capacity_of(channels.guest, *channel, answer) == small_bytes);
    CHECK(is_out_of_range(*channel));
  }
  REQUIRE_FAILS(Errc::not_found, "LUN 5",
                host.change_capacity(5, storvsp::views_of(disk, 1, host.workers())));
}

TEST_CASE("completions that find no room wait until the guest makes some") {
  Machine machine;
  machine.begin();
  const int count = 2000;  // more than the ring of completions and the queue hold
  int sent = 0;
  int received = 0;
  const auto room = [&] {
    const GuestRing& ring = machine.channel->outgoing();
    const uint32_t used =
        (ring.word(GuestRing::write_index) + ring.data_bytes() - ring.word(GuestRing::read_index)) %
        ring.data_bytes();
    return ring.data_bytes() - used > 200;
  };
  while (received < count) {
    // The guest does not look before it cannot send any more.
    while (sent < count && room())
      machine.channel->send(uint64_t(++sent),
                            GuestChannel::srb({}, test_unit_ready, GuestChannel::none, 0));
    const auto answer = machine.channel->receive();
    CHECK(answer.transaction_id == uint64_t(++received));
    CHECK(answer.packet.get<uint8_t>(14) == srb_success);
  }
}

// What is said with another mistake each.
void break_channel(GuestChannel& channel, const std::string& how) {
  const Bytes packet = GuestChannel::srb({}, read_10(0, 8), GuestChannel::read, 4096);
  GuestBuffer buffer{.byte_count = 4096, .byte_offset = 0, .pages = {1}};
  if (how == "type") return channel.send_raw(7, 1, 1, {}, packet);
  if (how == "short") return channel.send_raw(6, 1, 1, {}, Bytes(40));
  if (how == "page") buffer.pages = {0xfffffffffffff};
  if (how == "offset") buffer.byte_offset = 4096;
  if (how == "length") buffer.byte_count = 0xffffffff;
  if (how == "write index") {
    channel.outgoing().set_word(GuestRing::write_index, 0x7fffffff);
    return channel.signal();
  }
  if (how == "packet length") {
    Fields header(16);
    header.set(0, uint16_t{6}).set(2, uint16_t{2}).set(4, uint16_t{0xffff});
    const uint32_t begin = channel.outgoing().word(GuestRing::write_index);
    channel.outgoing().put(begin, header.bytes());
    channel.outgoing().set_word(GuestRing::write_index, channel.outgoing().after(begin, 96));
    return channel.signal();
  }
  channel.send(1, packet, &buffer);
}

TEST_CASE(
    "a channel whose guest breaks the protocol is closed with a reason, and can be opened anew") {
  Machine machine;
  machine.begin();
  size_t broken_count = 0;
  for (const char* const how :
       {"type", "short", "page", "offset", "length", "write index", "packet length"}) {
    CAPTURE(how);
    break_channel(*machine.channel, how);
    while (machine.host.log().size() == broken_count) std::this_thread::yield();
    ++broken_count;
    CHECK(machine.host.log().back().find("it is closed") != std::string::npos);
    machine.guest.close(*machine.channel);
    machine.channel = machine.guest.open(machine.offers[0]);
    machine.channel->initialize();
    CHECK(machine.channel->execute({}, test_unit_ready).scsi_status == good);
  }
  CHECK(machine.host.log().size() == broken_count);
}

TEST_CASE("a thread that rewrites the rings harms nobody but its own channel") {
  Machine machine;
  machine.begin();
  std::atomic<bool> is_over = false;
  std::thread mutator([&] {
    std::mt19937_64 random(7);
    while (!is_over) {
      const uint64_t page = 1 + random() % (2 * GuestChannel::ring_pages);
      const size_t offset = random() % 512 * 8;
      std::atomic_ref<uint64_t>(
          *reinterpret_cast<uint64_t*>(machine.host.memory.page(page) + offset))
          .store(random() % 4 == 0 ? random() : random() % 256);
      if (random() % 16 == 0) machine.host.signal(machine.offers[0].connection_id);
    }
  });
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (machine.host.log().empty()) continue;
    machine.guest.close(*machine.channel);
    machine.channel = machine.guest.open(machine.offers[0]);
  }
  is_over = true;
  mutator.join();
  // The host is as it was.
  machine.guest.close(*machine.channel);
  machine.channel = machine.guest.open(machine.offers[0]);
  machine.channel->initialize();
  CHECK(machine.channel->execute({}, test_unit_ready).scsi_status == good);
}

TEST_CASE("many completions are told by few signals") {
  Machine machine;
  machine.begin();
  const GuestBuffer buffer = machine.guest.take_buffer(4096);
  const Bytes packet = GuestChannel::srb({}, read_10(0, 8), GuestChannel::read, 4096);
  const uint64_t signals_before = machine.host.interrupts.signal_count();
  constexpr uint64_t rounds = 200;
  constexpr uint64_t depth = 32;
  for (uint64_t round = 0; round < rounds; ++round) {
    machine.channel->incoming().set_word(GuestRing::interrupt_mask, 0);
    machine.channel->begin_batch();
    for (uint64_t i = 1; i <= depth; ++i) machine.channel->send(i, packet, &buffer);
    machine.channel->end_batch();
    // Who collects while others come may find the ring empty several times.
    while (machine.channel->waiting_bytes() < depth * completion_bytes) std::this_thread::yield();
    for (uint64_t i = 0; i < depth; ++i) machine.channel->receive();
  }
  // None of a batch that was collected before the host could say that it was there.
  const uint64_t signals = machine.host.interrupts.signal_count() - signals_before;
  CHECK(signals > 0);
  CHECK(signals <= rounds);
}

TEST_CASE(
    "a guest that restarts finds its controller again, and one that is switched off leaves none") {
  Machine machine;
  machine.begin();
  // As after a crash: it makes contact without having closed anything.
  const auto offers = machine.guest.connect();
  REQUIRE(offers.size() == 1);
  CHECK(offers[0].relid == machine.offers[0].relid);
  machine.channel = machine.guest.open(offers[0]);
  machine.channel->initialize();
  CHECK(machine.channel->execute({}, test_unit_ready).scsi_status == good);
  machine.host.rescind();
  const Fields rescind(machine.host.take_message());
  CHECK(rescind.get<uint32_t>(0) == 2);
  CHECK(rescind.get<uint32_t>(8) == offers[0].relid);
}

}  // namespace
}  // namespace vhdkit::tests
