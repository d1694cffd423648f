#include "vmbus/ring.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

#include "support/checked.h"

namespace vhdkit::vmbus {
namespace {

constexpr uint64_t max_data_bytes = uint64_t{1} << 31;

// A store of ours before a load of theirs, which the processor would else swap: or both sides could
// go to sleep, each having missed what the other one wrote.
void full_barrier() { std::atomic_thread_fence(std::memory_order_seq_cst); }

std::unexpected<Error> corrupt(const std::string& what) {
  return fail(Errc::corrupt, "ring buffer: " + what);
}

}  // namespace

Result<Ring> Ring::create(PageList pages) {
  if (pages.size() < 2)
    return fail(Errc::invalid_argument,
                "a ring buffer has a control page and at least one of data");
  const uint64_t data_bytes = (pages.size() - 1) * GuestMemory::page_bytes;
  if (data_bytes > max_data_bytes)
    return fail(Errc::invalid_argument,
                "a ring buffer of " + std::to_string(data_bytes) + " bytes is too large");
  return Ring(std::move(pages), uint32_t(data_bytes));
}

std::atomic_ref<uint32_t> Ring::control(size_t offset) const {
  return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(pages_[0] + offset));
}

Result<uint32_t> Ring::index_at(size_t control_offset) const {
  const uint32_t index = control(control_offset).load(std::memory_order_acquire);
  if (index < data_bytes_ && is_aligned(index, packet_alignment)) return index;
  return corrupt("index " + std::to_string(index) + " in the control page at offset " +
                 std::to_string(control_offset) + ", data of " + std::to_string(data_bytes_) +
                 " bytes");
}

void Ring::copy_out(uint32_t index, std::span<std::byte> to) const {
  while (!to.empty()) {
    const size_t in_page = index % GuestMemory::page_bytes;
    const size_t count = std::min(to.size(), GuestMemory::page_bytes - in_page);
    copy_from_guest(to.data(), pages_[1 + index / GuestMemory::page_bytes] + in_page, count);
    to = to.subspan(count);
    index = advanced(index, uint32_t(count));
  }
}

void Ring::copy_in(uint32_t index, std::span<const std::byte> from) const {
  while (!from.empty()) {
    const size_t in_page = index % GuestMemory::page_bytes;
    const size_t count = std::min(from.size(), GuestMemory::page_bytes - in_page);
    copy_to_guest(pages_[1 + index / GuestMemory::page_bytes] + in_page, from.data(), count);
    from = from.subspan(count);
    index = advanced(index, uint32_t(count));
  }
}

// --- what the guest sends ---

RingReader::RingReader(Ring ring, uint32_t max_packet_bytes, uint32_t read_index)
    : ring_(std::move(ring)),
      buffer_(std::min(max_packet_bytes, ring_.data_bytes())),
      read_index_(read_index),
      returned_index_(read_index) {
  assert(read_index < ring_.data_bytes());
}

Result<std::optional<Packet>> RingReader::next() {
  if (unread_ == 0) {
    TRY_LET(const uint32_t write_index, ring_.index_at(write_index_offset));
    unread_ = ring_.distance(read_index_, write_index);
  }
  if (unread_ == 0) return std::nullopt;
  PacketHeader header;
  if (unread_ < sizeof header + trailer_bytes)
    return corrupt(std::to_string(unread_) + " bytes were written, less than a packet has");
  ring_.copy_out(read_index_, writable_bytes_of(header));
  const uint32_t length = uint32_t{header.length_words} * uint32_t{packet_alignment};
  const uint32_t payload_offset =
      uint32_t{header.payload_offset_words} * uint32_t{packet_alignment};
  if (payload_offset < sizeof header || payload_offset > length)
    return corrupt("a packet of " + std::to_string(length) + " bytes has its payload at " +
                   std::to_string(payload_offset));
  if (length + trailer_bytes > unread_ || length > buffer_.size())
    return corrupt("a packet says that it has " + std::to_string(length) + " bytes; " +
                   std::to_string(unread_) + " were written, and " +
                   std::to_string(buffer_.size()) + " is the most that one may have");
  // The header is not read again: what was checked is what counts.
  const std::span rest = std::span(buffer_).first(length - sizeof header);
  ring_.copy_out(ring_.advanced(read_index_, sizeof header), rest);
  read_index_ = ring_.advanced(read_index_, length + uint32_t{trailer_bytes});
  unread_ -= length + uint32_t{trailer_bytes};
  const size_t descriptor_bytes = payload_offset - sizeof header;
  return Packet{.type = PacketType(uint16_t{header.type}),
                .flags = header.flags,
                .transaction_id = header.transaction_id,
                .descriptor = rest.first(descriptor_bytes),
                .payload = rest.subspan(descriptor_bytes)};
}

bool RingReader::give_back() {
  const uint32_t returned = ring_.distance(returned_index_, read_index_);
  if (returned == 0) return false;
  returned_index_ = read_index_;
  ring_.control(read_index_offset).store(read_index_, std::memory_order_release);
  full_barrier();
  const uint32_t wanted = ring_.control(pending_send_size_offset).load(std::memory_order_relaxed);
  if (wanted == 0) return false;
  const auto write_index = ring_.index_at(write_index_offset);
  if (!write_index) return false;  // next() says so
  const uint32_t room = ring_.data_bytes() - ring_.distance(read_index_, *write_index);
  return room > wanted && room - std::min(room, returned) <= wanted;
}

void RingReader::mask_signals() {
  ring_.control(interrupt_mask_offset).store(1, std::memory_order_relaxed);
}

bool RingReader::unmask_signals() {
  ring_.control(interrupt_mask_offset).store(0, std::memory_order_relaxed);
  full_barrier();
  return is_empty();
}

bool RingReader::is_empty() {
  return ring_.control(write_index_offset).load(std::memory_order_acquire) == read_index_;
}

// --- what the guest receives ---

RingWriter::RingWriter(Ring ring, uint32_t write_index)
    : ring_(std::move(ring)), write_index_(write_index), published_index_(write_index) {
  assert(write_index < ring_.data_bytes());
}

// It is never filled to the last byte.
Result<bool> RingWriter::finds_room(uint32_t needed) {
  TRY_LET(const uint32_t read_index, ring_.index_at(read_index_offset));
  free_ = ring_.data_bytes() - ring_.distance(read_index, write_index_);
  return free_ > needed;
}

Result<bool> RingWriter::has_or_waits_for_room(uint32_t needed) {
  if (free_ > needed) return true;
  TRY_LET(const bool fits, finds_room(needed));
  if (fits) return true;
  waits_for_room_ = true;
  ring_.control(pending_send_size_offset).store(needed, std::memory_order_relaxed);
  full_barrier();
  // It may have made room before it could see that we wait.
  return finds_room(needed);
}

Result<bool> RingWriter::write(PacketType type, uint64_t transaction_id,
                               std::span<const std::byte> payload) {
  const uint64_t length = sizeof(PacketHeader) + align_up(payload.size(), packet_alignment);
  if (length + trailer_bytes >= ring_.data_bytes() || length / packet_alignment > UINT16_MAX)
    return fail(Errc::invalid_argument,
                "a packet of " + std::to_string(payload.size()) + " bytes is larger than its ring");
  const auto needed = uint32_t(length + trailer_bytes);
  TRY_LET(const bool fits, has_or_waits_for_room(needed));
  if (!fits) return false;
  if (std::exchange(waits_for_room_, false))
    ring_.control(pending_send_size_offset).store(0, std::memory_order_relaxed);
  const PacketHeader header{.type = uint16_t(type),
                            .payload_offset_words = sizeof header / packet_alignment,
                            .length_words = uint16_t(length / packet_alignment),
                            .flags = 0,
                            .transaction_id = transaction_id};
  const le64 trailer = uint64_t{write_index_} << 32;
  packet_.resize(needed);
  std::memcpy(packet_.data(), &header, sizeof header);
  // std::copy() of pointers moves words; g++ 12's std::ranges::copy() moves bytes.
  std::byte* const padding =
      std::copy(payload.data(), payload.data() + payload.size(), packet_.data() + sizeof header);
  std::fill(padding, packet_.data() + length, std::byte{0});
  std::memcpy(packet_.data() + length, &trailer, sizeof trailer);
  ring_.copy_in(write_index_, packet_);
  write_index_ = ring_.advanced(write_index_, needed);
  free_ -= needed;
  return true;
}

bool RingWriter::publish() {
  if (published_index_ == write_index_) return false;
  const uint32_t before = std::exchange(published_index_, write_index_);
  free_ = 0;
  ring_.control(write_index_offset).store(write_index_, std::memory_order_release);
  full_barrier();
  const bool wants_signals =
      ring_.control(interrupt_mask_offset).load(std::memory_order_relaxed) == 0;
  return wants_signals &&
         ring_.control(read_index_offset).load(std::memory_order_relaxed) == before;
}

}  // namespace vhdkit::vmbus
