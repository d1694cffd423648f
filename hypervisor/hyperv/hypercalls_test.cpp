#include "hypervisor/hyperv/hypercalls.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "vmbus/test_memory.h"

namespace vhdkit::hypervisor {
namespace {

struct Heard final : Connections {
  HypercallStatus post_message(uint32_t connection_id,
                               std::span<const std::byte> message) override {
    connection = connection_id;
    bytes.assign(message.begin(), message.end());
    return status;
  }
  HypercallStatus signal_event(uint32_t connection_id) override {
    signalled = connection_id;
    return status;
  }

  HypercallStatus status = HypercallStatus::success;
  uint32_t connection = 0;
  uint32_t signalled = 0;
  std::vector<std::byte> bytes;
};

struct Fixture {
  uint64_t call(uint64_t control, uint64_t input) {
    return execute({.control = control, .input = input}, memory, heard);
  }
  // Connection, type and size where post_message has them, from the address on.
  void put_message(uint64_t address, uint32_t connection, uint32_t type, uint32_t size) {
    std::byte* const place = memory.page(address / 4096) + address % 4096;
    std::memcpy(place, &connection, 4);
    std::memcpy(place + 8, &type, 4);
    std::memcpy(place + 12, &size, 4);
    for (size_t i = 0; i < 240; ++i) place[16 + i] = std::byte(i);
  }

  vmbus::TestMemory memory{16};
  Heard heard;
};

TEST_CASE("a message is copied out of the guest's memory") {
  Fixture fixture;
  fixture.put_message(0x2e00, 4, 1, 40);
  CHECK(fixture.call(0x5c, 0x2e00) == 0);
  CHECK(fixture.heard.connection == 4);
  REQUIRE(fixture.heard.bytes.size() == 40);
  CHECK(fixture.heard.bytes[39] == std::byte{39});
  fixture.heard.status = HypercallStatus::insufficient_buffers;
  CHECK(fixture.call(0x5c, 0x2e00) == 0x13);
}

TEST_CASE("messages that contradict the rules are refused by their status") {
  Fixture fixture;
  fixture.put_message(0x2000, 4, 1, 241);
  CHECK(fixture.call(0x5c, 0x2000) == 5);
  fixture.put_message(0x2000, 4, 2, 8);
  CHECK(fixture.call(0x5c, 0x2000) == 5);
  fixture.put_message(0x2000, 4, 1, 8);
  CHECK(fixture.call(0x5c, 0x2004) == 4);
  CHECK(fixture.call(0x5c, 0x2f08) == 5);     // over the end of the page
  CHECK(fixture.call(0x5c, 0x10'0000) == 5);  // no RAM
  CHECK(fixture.call(0x5c, ~uint64_t{0} - 7) == 5);
  CHECK(fixture.call(0x1005c, 0x2000) == 3);        // fast
  CHECK(fixture.call(0x1'0000'005c, 0x2000) == 3);  // repeated
  CHECK(fixture.heard.bytes.empty());
}

TEST_CASE("signals come in a register or in memory") {
  Fixture fixture;
  CHECK(fixture.call(0x1005d, 0x2001) == 0);
  CHECK(fixture.heard.signalled == 0x2001);
  CHECK(fixture.call(0x1005d, 0x1'0000'2002) == 5);  // another flag than 0
  const uint64_t input = 0x2003;
  std::memcpy(fixture.memory.page(3), &input, 8);
  CHECK(fixture.call(0x5d, 0x3000) == 0);
  CHECK(fixture.heard.signalled == 0x2003);
  fixture.heard.status = HypercallStatus::invalid_connection_id;
  CHECK(fixture.call(0x1005d, 0x2004) == 0x12);
}

TEST_CASE("other calls are unknown") {
  Fixture fixture;
  for (const uint64_t code : {0x0, 0x2, 0x3, 0xb, 0x13, 0x46, 0x8001, 0xffff})
    CHECK(fixture.call(code, 0x2000) == 2);
}

TEST_CASE("the page begins with a landing pad and keeps what its callers keep") {
  const auto page = hypercall_page();
  const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
  CHECK(std::ranges::equal(page.first(4), std::as_bytes(std::span(endbr64))));
  CHECK(page.back() == std::byte{0xc3});
  // The jump leads to the call by the other port: out imm8, al.
  CHECK(page[10] == std::byte{0x75});
  const size_t call = 12 + size_t(page[11]);
  REQUIRE(call + 3 == page.size());
  CHECK(page[call] == std::byte{0xe6});
  CHECK(page[call + 1] == std::byte(hypercall_port));
}

}  // namespace
}  // namespace vhdkit::hypervisor
