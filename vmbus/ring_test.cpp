#include "vmbus/ring.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

#include "tests/support/await.h"
#include "vmbus/test_memory.h"

namespace vhdkit::vmbus {
namespace {

constexpr size_t page_bytes = GuestMemory::page_bytes;

// The other side of a ring, as Linux's drivers/hv/ring_buffer.c does it: by the numbers, with
// nothing of ours.
class Guest {
 public:
  Guest(TestMemory& memory, const std::vector<uint64_t>& pages) : memory_(memory), pages_(pages) {}

  uint32_t word(size_t offset) { return atomic(offset).load(); }
  void set_word(size_t offset, uint32_t value) { atomic(offset).store(value); }
  uint32_t data_bytes() const { return uint32_t((pages_.size() - 1) * page_bytes); }

  uint64_t get(uint32_t index) {
    uint64_t value = 0;
    std::memcpy(&value, place(index), 8);
    return value;
  }
  void put(uint32_t index, uint64_t value) { std::memcpy(place(index), &value, 8); }

  // Type, flags, transaction, 64-bit words of payload behind as many of the descriptor.
  void send(uint16_t type, uint64_t transaction, const std::vector<uint64_t>& descriptor,
            const std::vector<uint64_t>& payload) {
    uint32_t index = word(0);
    const uint32_t start = index;
    const uint64_t offset8 = 2 + descriptor.size();
    const uint64_t length8 = offset8 + payload.size();
    const auto append = [&](uint64_t value) {
      put(index, value);
      index = (index + 8) % data_bytes();
    };
    append(type | offset8 << 16 | length8 << 32 | uint64_t{1} << 48);
    append(transaction);
    for (const uint64_t value : descriptor) append(value);
    for (const uint64_t value : payload) append(value);
    append(uint64_t{start} << 32);
    set_word(0, index);
  }
  uint32_t free_to_send() {
    return data_bytes() - (word(0) + data_bytes() - word(4)) % data_bytes();
  }

  // The payload of the next packet that it receives; transaction first.
  std::vector<uint64_t> receive() {
    uint32_t index = word(4);
    REQUIRE(index != word(0));
    const uint64_t first = get(index);
    const uint64_t offset8 = first >> 16 & 0xffff;
    const uint64_t length8 = first >> 32 & 0xffff;
    std::vector<uint64_t> found{get((index + 8) % data_bytes())};
    for (uint64_t i = offset8; i < length8; ++i)
      found.push_back(get(uint32_t((index + i * 8) % data_bytes())));
    const uint64_t trailer = get(uint32_t((index + length8 * 8) % data_bytes()));
    CHECK(trailer == uint64_t{index} << 32);
    set_word(4, uint32_t((index + length8 * 8 + 8) % data_bytes()));
    return found;
  }

 private:
  std::atomic_ref<uint32_t> atomic(size_t offset) {
    return std::atomic_ref<uint32_t>(
        *reinterpret_cast<uint32_t*>(memory_.page(pages_[0]) + offset));
  }
  std::byte* place(uint32_t index) {
    return memory_.page(pages_[1 + index / page_bytes]) + index % page_bytes;
  }
  TestMemory& memory_;
  std::vector<uint64_t> pages_;
};

struct Fixture {
  TestMemory memory{8};
  std::vector<uint64_t> pages{5, 2, 7, 1};
  Guest guest{memory, pages};

  Ring ring() {
    auto list = look_up(memory, pages);
    REQUIRE_OK(list);
    auto ring = Ring::create(*list);
    REQUIRE_OK(ring);
    return *ring;
  }
};

std::vector<uint64_t> words_of(std::span<const std::byte> bytes) {
  std::vector<uint64_t> words(bytes.size() / 8);
  std::ranges::copy(bytes, std::as_writable_bytes(std::span(words)).begin());
  return words;
}

std::vector<uint64_t> random_words(std::mt19937_64& random, size_t most) {
  std::vector<uint64_t> words(random() % (most + 1));
  for (uint64_t& word : words) word = random();
  return words;
}

TEST_CASE("pages that are no RAM are named, and so are rings that are none") {
  TestMemory memory(3);
  const uint64_t numbers[] = {0, 2, 3};
  REQUIRE_FAILS(Errc::invalid_argument, "guest page 3", look_up(memory, numbers));
  const auto one = look_up(memory, std::span(numbers).first(1));
  REQUIRE_OK(one);
  REQUIRE_FAILS(Errc::invalid_argument, "control page and at least one", Ring::create(*one));
}

TEST_CASE("what a guest sends is read as it was written, around the ring's end") {
  Fixture fixture;
  RingReader reader(fixture.ring(), 1 << 16);
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    const auto descriptor = random_words(random, 20);
    const auto payload = random_words(random, 300);
    const uint64_t transaction = random();
    fixture.guest.send(uint16_t(PacketType::gpa_direct), transaction, descriptor, payload);
    const auto packet = reader.next();
    REQUIRE_OK(packet);
    REQUIRE(packet->has_value());
    CHECK((*packet)->type == PacketType::gpa_direct);
    CHECK((*packet)->flags == flag_completion_requested);
    REQUIRE((*packet)->transaction_id == transaction);
    REQUIRE(words_of((*packet)->descriptor) == descriptor);
    REQUIRE(words_of((*packet)->payload) == payload);
    CHECK_FALSE(reader.give_back());
    REQUIRE(fixture.guest.word(4) == fixture.guest.word(0));
    const auto none = reader.next();
    REQUIRE_OK(none);
    REQUIRE_FALSE(none->has_value());
  }
}

TEST_CASE("what we send is read as it was written, and the ring is never filled to its last byte") {
  Fixture fixture;
  RingWriter writer(fixture.ring());
  std::mt19937_64 random(2);
  std::vector<std::vector<uint64_t>> sent;
  size_t full_count = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<uint64_t> words = random_words(random, 100);
    words.insert(words.begin(), random());
    const auto payload = std::as_bytes(std::span(words)).subspan(8);
    const auto written = writer.write(PacketType::completion, words[0], payload);
    REQUIRE_OK(written);
    if (*written) {
      sent.push_back(words);
      writer.publish();
    } else {
      ++full_count;
      const size_t needed = 16 + payload.size() + 8;
      CHECK(fixture.guest.word(pending_send_size_offset) == needed);
    }
    CHECK(fixture.guest.free_to_send() > 0);
    // It reads in bursts.
    if (!*written || random() % 40 == 0) {
      for (const auto& expected : sent) REQUIRE(fixture.guest.receive() == expected);
      sent.clear();
    }
  }
  CHECK(full_count > 10);
}

TEST_CASE("a payload that is no multiple of 8 bytes ends in zeroes") {
  Fixture fixture;
  RingWriter writer(fixture.ring());
  const std::vector<std::byte> payload(13, std::byte{0xee});
  const auto written = writer.write(PacketType::in_band, 7, payload);
  REQUIRE_OK(written);
  writer.publish();
  CHECK(fixture.guest.receive() ==
        std::vector<uint64_t>{7, 0xeeeeeeeeeeeeeeee, 0x000000eeeeeeeeee});
  const std::vector<std::byte> larger(3 * page_bytes, std::byte{1});
  REQUIRE_FAILS(Errc::invalid_argument, "larger than its ring",
                writer.write(PacketType::in_band, 7, larger));
}

TEST_CASE("the guest is signalled when it sleeps, and only then") {
  Fixture fixture;
  RingWriter writer(fixture.ring());
  const std::vector<std::byte> payload(64);
  const auto send = [&] {
    const auto written = writer.write(PacketType::completion, 1, payload);
    REQUIRE_OK(written);
    REQUIRE(*written);
  };
  CHECK_FALSE(writer.publish());  // nothing to see
  send();
  send();
  CHECK(writer.publish());  // one signal for both
  send();
  CHECK_FALSE(writer.publish());  // it has not read the others yet, so it is awake
  for (int i = 0; i < 3; ++i) fixture.guest.receive();
  send();
  CHECK(writer.publish());
  fixture.guest.receive();
  fixture.guest.set_word(interrupt_mask_offset, 1);
  send();
  CHECK_FALSE(writer.publish());
}

TEST_CASE("a guest that waits for room is signalled once there is enough, and not again") {
  Fixture fixture;
  RingReader reader(fixture.ring(), 1 << 16);
  const std::vector<uint64_t> payload(100);
  while (fixture.guest.free_to_send() > 1000) fixture.guest.send(6, 1, {}, payload);
  fixture.guest.set_word(pending_send_size_offset, 2000);
  const auto take_one = [&reader] {
    const auto packet = reader.next();
    REQUIRE_OK(packet);
    REQUIRE(packet->has_value());
    return reader.give_back();
  };
  size_t signals = 0;
  while (fixture.guest.free_to_send() <= 2000) signals += take_one() ? 1 : 0;
  CHECK(signals == 1);
  CHECK_FALSE(take_one());
  fixture.guest.set_word(pending_send_size_offset, 0);
  CHECK_FALSE(take_one());
}

TEST_CASE(
    "signals are off while the ring is emptied, and nothing is missed when they are on again") {
  Fixture fixture;
  RingReader reader(fixture.ring(), 1 << 16);
  reader.mask_signals();
  CHECK(fixture.guest.word(interrupt_mask_offset) == 1);
  CHECK(reader.unmask_signals());
  CHECK(fixture.guest.word(interrupt_mask_offset) == 0);
  fixture.guest.send(6, 1, {}, {1, 2, 3});
  CHECK_FALSE(reader.unmask_signals());
}

TEST_CASE("indices and lengths that cannot be are corrupt") {
  struct Lie {
    const char* says;
    uint32_t write_index;
    uint64_t first_word;
  };
  constexpr Lie lies[] = {
      {"index 12288", 3 * 4096, 0},                           // where the data ends
      {"index 4294967288", 0xfffffff8, 0},                    // far outside
      {"index 20", 20, 0},                                    // not on 8 bytes
      {"less than a packet has", 16, 0},                      //
      {"payload at 0", 64, 0x0002000000000006},               // inside the header
      {"payload at 24", 64, 0x0001000200030006},              // behind the end
      {"says that it has 64 bytes", 64, 0x0000000800020006},  // the trailer is not there
      {"says that it has 524280 bytes", 4096, 0x0000ffff00020006},
  };
  for (const Lie& lie : lies) {
    CAPTURE(lie.says);
    Fixture fixture;
    RingReader reader(fixture.ring(), 1 << 16);
    fixture.guest.put(0, lie.first_word);
    fixture.guest.set_word(0, lie.write_index);
    REQUIRE_FAILS(Errc::corrupt, lie.says, reader.next());
  }
  Fixture fixture;
  RingReader small(fixture.ring(), 80);
  fixture.guest.send(6, 1, {}, std::vector<uint64_t>(20));
  REQUIRE_FAILS(Errc::corrupt, "80 is the most", small.next());
  RingWriter writer(fixture.ring());
  fixture.guest.set_word(read_index_offset, 12288);
  REQUIRE_FAILS(Errc::corrupt, "index 12288", writer.write(PacketType::in_band, 1, {}));
}

TEST_CASE("memory that changes while it is read and written breaks nothing") {
  Fixture fixture;
  std::atomic<bool> is_over = false;
  std::thread scribbler([&] {
    std::mt19937_64 random(3);
    while (!is_over) {
      std::byte* const page = fixture.memory.page(fixture.pages[random() % 4]);
      const uint64_t word = random() % 3 == 0 ? random() : random() % 12288 / 8 * 8;
      auto& target = *reinterpret_cast<uint64_t*>(page + random() % (page_bytes / 8) * 8);
      std::atomic_ref<uint64_t>(target).store(word);
      fixture.guest.set_word(random() % 2 * 4, uint32_t(random() % 12288 / 8 * 8));
    }
  });
  RingReader reader(fixture.ring(), 4096);
  RingWriter writer(fixture.ring());
  const std::vector<std::byte> payload(100, std::byte{1});
  size_t packets = 0;
  for (int i = 0; i < 200000; ++i) {
    const auto packet = reader.next();
    if (packet && *packet) {
      ++packets;
      const size_t size = (*packet)->descriptor.size() + (*packet)->payload.size();
      CHECK(size <= 4096);
    }
    reader.give_back();
    const auto written = writer.write(PacketType::completion, 1, payload);
    if (written && *written) writer.publish();
  }
  is_over = true;
  scribbler.join();
  CHECK(packets > 0);
}

}  // namespace
}  // namespace vhdkit::vmbus
