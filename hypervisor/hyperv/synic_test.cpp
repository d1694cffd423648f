#include "hypervisor/hyperv/synic.h"

#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "vmbus/test_memory.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint32_t scontrol = 0x4000'0080;
constexpr uint32_t siefp = 0x4000'0082;
constexpr uint32_t simp = 0x4000'0083;
constexpr uint32_t eom = 0x4000'0084;
constexpr uint32_t sint2 = 0x4000'0092;

struct TestWires final : Wires {
  void set_vector(uint32_t vp, uint8_t sint, uint8_t vector) override {
    vectors[{vp, sint}] = vector;
  }
  void set_auto_eoi(uint32_t vp, uint8_t sint, uint8_t vector, bool ends_by_itself) override {
    if (ends_by_itself)
      auto_eois[{vp, sint}] = vector;
    else
      CHECK(auto_eois.erase({vp, sint}) == 1);
  }
  void interrupt(uint32_t vp, uint8_t sint) override { ++interrupts[{vp, sint}]; }
  void connect_signal(uint32_t connection_id, int) override { connected.insert(connection_id); }
  void disconnect_signal(uint32_t connection_id, int) override { connected.erase(connection_id); }

  std::map<std::pair<uint32_t, unsigned>, unsigned> vectors;
  std::map<std::pair<uint32_t, unsigned>, unsigned> auto_eois;
  std::map<std::pair<uint32_t, unsigned>, unsigned> interrupts;
  std::set<uint32_t> connected;
};

struct Fixture {
  Fixture() { synic.reset(&wires); }
  // As hv_vmbus does it, in its order.
  void enable(uint32_t vp) {
    CHECK(synic.write(vp, simp, 0x3000 | 1));
    CHECK(synic.write(vp, siefp, 0x4000 | 1));
    CHECK(synic.write(vp, sint2, 0xf3));
    CHECK(synic.write(vp, scontrol, 1));
  }
  bool post(std::string_view text, vmbus::Destination destination = {.vp = 1, .sint = 2}) {
    return synic.post_message(destination, std::as_bytes(std::span(text)));
  }
  std::byte* slot() { return memory.page(3) + 2 * 256; }
  uint32_t type() {
    uint32_t type;
    std::memcpy(&type, slot(), 4);
    return type;
  }
  std::string text() { return {reinterpret_cast<char*>(slot() + 16), size_t(slot()[4])}; }
  void empty_slot() { std::memset(slot(), 0, 4); }

  vmbus::TestMemory memory{16};
  int free_count = 0;
  Synic synic{memory, 2, [this] { ++free_count; }};
  TestWires wires;
};

TEST_CASE("a guest that leaves the end of interrupts to us gets it, as long as they can come") {
  Fixture fixture;
  using Vectors = decltype(fixture.wires.auto_eois);
  // As Linux 4.11's hv_vmbus, and what it does when it is unloaded.
  CHECK(fixture.synic.write(1, sint2, 0x200f3));
  CHECK(fixture.wires.auto_eois == Vectors{{{1, 2}, 0xf3}});
  CHECK(fixture.synic.read(1, sint2) == 0x200f3);
  CHECK(fixture.synic.write(1, sint2, 0x300f3));
  CHECK(fixture.wires.auto_eois.empty());
  CHECK(fixture.synic.write(1, sint2, 0x200f4));
  CHECK(fixture.wires.auto_eois == Vectors{{{1, 2}, 0xf4}});
  CHECK(fixture.synic.write(1, sint2, 0xf4));
  CHECK(fixture.wires.auto_eois.empty());
}

TEST_CASE("registers read as after a reset, and as they were written") {
  Fixture fixture;
  CHECK(fixture.synic.read(0, sint2) == 0x10000);
  CHECK(fixture.synic.read(0, 0x4000'0081) == 1);
  fixture.enable(1);
  CHECK(fixture.synic.read(1, simp) == 0x3001);
  CHECK(fixture.synic.read(1, siefp) == 0x4001);
  CHECK(fixture.synic.read(1, sint2) == 0xf3);
  CHECK(fixture.synic.read(0, simp) == 0);
  CHECK(fixture.wires.vectors == decltype(fixture.wires.vectors){{{1, 2}, 0xf3}});
  CHECK_FALSE(fixture.synic.write(1, 0x4000'0081, 2));
  // A vector below 16 that is not masked.
  CHECK_FALSE(fixture.synic.write(1, sint2, 3));
  CHECK(fixture.synic.read(1, sint2) == 0xf3);
  fixture.synic.reset(&fixture.wires);
  CHECK(fixture.synic.read(1, simp) == 0);
  CHECK(fixture.synic.read(1, sint2) == 0x10000);
}

TEST_CASE("a message lies in its slot, and an interrupt says so") {
  Fixture fixture;
  CHECK_FALSE(fixture.post("early"));
  fixture.enable(1);
  CHECK(fixture.post("hello"));
  CHECK(fixture.type() == 1);
  CHECK(fixture.text() == "hello");
  CHECK(fixture.slot()[5] == std::byte{0});
  CHECK(fixture.wires.interrupts == decltype(fixture.wires.interrupts){{{1, 2}, 1}});
  CHECK(fixture.post("nowhere", {.vp = 2, .sint = 2}));
  CHECK(fixture.post("nowhere", {.vp = 1, .sint = 16}));
}

TEST_CASE("a slot that is taken keeps its message and says that another one waits") {
  Fixture fixture;
  fixture.enable(1);
  CHECK(fixture.post("first"));
  CHECK_FALSE(fixture.post("second"));
  CHECK(fixture.text() == "first");
  CHECK(fixture.slot()[5] == std::byte{1});
  const int before = fixture.free_count;
  fixture.empty_slot();
  CHECK(fixture.synic.write(1, eom, 0));
  CHECK(fixture.free_count == before + 1);
  CHECK(fixture.post("second"));
  CHECK(fixture.text() == "second");
  CHECK(fixture.slot()[5] == std::byte{0});
}

TEST_CASE("masked, switched off or without a page, nothing is delivered") {
  Fixture fixture;
  fixture.enable(1);
  CHECK(fixture.synic.write(1, sint2, 0x100f3));
  CHECK_FALSE(fixture.post("masked"));
  CHECK(fixture.synic.write(1, sint2, 0xf3));
  CHECK(fixture.synic.write(1, scontrol, 0));
  CHECK_FALSE(fixture.post("off"));
  fixture.synic.set_event_flag({.vp = 1, .sint = 2}, 7);
  CHECK(fixture.synic.write(1, scontrol, 1));
  CHECK(fixture.synic.write(1, simp, 0x7fff'f000'0000 | 1));
  CHECK_FALSE(fixture.post("no memory"));
  CHECK(fixture.synic.write(1, simp, 0x3000));
  CHECK_FALSE(fixture.post("no page"));
  CHECK(fixture.wires.interrupts.empty());
}

TEST_CASE("an event flag interrupts when it is set, not when it is set already") {
  Fixture fixture;
  fixture.enable(1);
  const auto flags = [&] { return fixture.memory.page(4) + 2 * 256; };
  fixture.synic.set_event_flag({.vp = 1, .sint = 2}, 2047);
  CHECK(flags()[255] == std::byte{0x80});
  fixture.synic.set_event_flag({.vp = 1, .sint = 2}, 2047);
  CHECK(fixture.wires.interrupts == decltype(fixture.wires.interrupts){{{1, 2}, 1}});
  flags()[255] = std::byte{0};
  fixture.synic.set_event_flag({.vp = 1, .sint = 2}, 2047);
  CHECK(fixture.wires.interrupts == decltype(fixture.wires.interrupts){{{1, 2}, 2}});
  fixture.synic.set_event_flag({.vp = 1, .sint = 2}, 2048);
  fixture.synic.set_event_flag({.vp = 9, .sint = 2}, 1);
  CHECK(fixture.wires.interrupts == decltype(fixture.wires.interrupts){{{1, 2}, 2}});
}

TEST_CASE("no message is lost between a host that posts and a guest that collects") {
  Fixture fixture;
  fixture.enable(1);
  constexpr uint32_t count = 20'000;
  std::atomic<bool> may_post = true;
  Synic synic(fixture.memory, 2, [&] { may_post = true; });
  synic.reset(&fixture.wires);
  for (const auto& [index, value] :
       std::map<uint32_t, uint64_t>{{simp, 0x3001}, {siefp, 0x4001}, {sint2, 0xf3}, {scontrol, 1}})
    CHECK(synic.write(1, index, value));
  std::thread guest([&] {
    std::atomic_ref<uint32_t> type(*reinterpret_cast<uint32_t*>(fixture.slot()));
    std::atomic_ref<uint8_t> flags(*reinterpret_cast<uint8_t*>(fixture.slot() + 5));
    for (uint32_t expected = 0; expected < count; ++expected) {
      while (type.load() == 0) std::this_thread::yield();
      uint32_t number;
      std::memcpy(&number, fixture.slot() + 16, 4);
      CHECK(number == expected);
      type.store(0);
      if ((flags.load() & 1) != 0) synic.write(1, eom, 0);
    }
  });
  for (uint32_t number = 0; number < count;) {
    // As the server does: after a refusal it waits to be told.
    while (!may_post.exchange(false)) std::this_thread::yield();
    while (number < count &&
           synic.post_message({.vp = 1, .sint = 2}, std::as_bytes(std::span(&number, 1))))
      ++number;
  }
  guest.join();
}

}  // namespace
}  // namespace vhdkit::hypervisor
