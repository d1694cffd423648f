// The guest's end of a pair of rings, as Linux's drivers/hv/ring_buffer.c does it: by the numbers
// of the guest contract, with nothing of vmbus/ring.h.
#pragma once

#include <atomic>
#include <cstring>
#include <span>
#include <vector>

#include "vmbus/guest_memory.h"

namespace vhdkit::tests {

struct GuestPacket {
  uint16_t type;
  uint16_t flags = 1;  // a completion is wanted
  uint64_t transaction_id;
  std::span<const std::byte> descriptor;  // between the header and the payload
  std::span<const std::byte> payload;
};

// Bytes in pages that need not lie side by side, and the words of its control page.
class GuestRing {
 public:
  explicit GuestRing(std::vector<std::byte*> pages) : pages_(std::move(pages)) {}

  uint32_t data_bytes() const { return uint32_t((pages_.size() - 1) * page_bytes); }
  uint32_t word(size_t offset) const { return atomic(offset).load(); }
  void set_word(size_t offset, uint32_t value) const { atomic(offset).store(value); }

  void put(uint32_t index, std::span<const std::byte> bytes) const {
    each_part(index, bytes.size(), [&](std::byte* place, size_t at, size_t count) {
      std::memcpy(place, bytes.data() + at, count);
    });
  }
  void get(uint32_t index, std::span<std::byte> bytes) const {
    each_part(index, bytes.size(), [&](std::byte* place, size_t at, size_t count) {
      std::memcpy(bytes.data() + at, place, count);
    });
  }
  uint32_t after(uint32_t index, size_t count) const {
    return uint32_t((index + count) % data_bytes());
  }

  // The packet at an index; where the next one begins. The host does not see it before the write
  // index says so.
  uint32_t put_packet(uint32_t begin, const GuestPacket& packet) const {
    const auto words = [](size_t bytes) { return (bytes + 7) / 8; };
    const uint64_t offset = 2 + words(packet.descriptor.size());
    const uint64_t length = offset + words(packet.payload.size());
    const uint64_t header[] = {
        packet.type | offset << 16 | length << 32 | uint64_t{packet.flags} << 48,
        packet.transaction_id};
    const uint64_t trailer[] = {uint64_t{begin} << 32};
    put(begin, std::as_bytes(std::span(header)));
    put(after(begin, 16), packet.descriptor);
    put(after(begin, offset * 8), packet.payload);
    put(after(begin, length * 8), std::as_bytes(std::span(trailer)));
    return after(begin, length * 8 + 8);
  }

  static constexpr size_t write_index = 0;
  static constexpr size_t read_index = 4;
  static constexpr size_t interrupt_mask = 8;
  static constexpr size_t pending_send_size = 12;
  static constexpr size_t features = 64;

 private:
  static constexpr size_t page_bytes = vmbus::GuestMemory::page_bytes;

  std::atomic_ref<uint32_t> atomic(size_t offset) const {
    return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(pages_[0] + offset));
  }
  template <class Act>
  void each_part(uint32_t index, size_t length, Act act) const {
    for (size_t at = 0; at < length;) {
      const uint32_t here = after(index, at);
      const size_t count = std::min<size_t>(length - at, page_bytes - here % page_bytes);
      act(pages_[1 + here / page_bytes] + here % page_bytes, at, count);
      at += count;
    }
  }

  std::vector<std::byte*> pages_;
};

}  // namespace vhdkit::tests
