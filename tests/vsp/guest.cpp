#include "tests/vsp/guest.h"

#include <cstdio>
#include <cstdlib>

namespace vhdkit::tests {
namespace {

constexpr size_t page_bytes = vmbus::GuestMemory::page_bytes;
constexpr size_t packet_size = 64;
constexpr uint16_t in_band = 6;
constexpr uint16_t gpa_direct = 9;
constexpr auto longest_wait = std::chrono::seconds(60);

// Also outside a test program: what the host may never do ends it.
void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "the guest expects: %s\n", what);
  std::abort();
}

Fields message(uint32_t type, size_t size) {
  Fields fields(size);
  fields.set(0, type);
  return fields;
}

uint32_t status_of(const Fields& answer) { return answer.get<uint32_t>(8); }

std::vector<std::byte*> places(FlatMemory& memory, std::span<const uint64_t> pages) {
  std::vector<std::byte*> result;
  for (const uint64_t page : pages) result.push_back(memory.page(page));
  return result;
}

}  // namespace

// --- GuestChannel ---

GuestChannel::GuestChannel(Host& host, uint32_t relid, uint32_t connection_id,
                           std::vector<uint64_t> pages)
    : host_(host),
      relid_(relid),
      connection_id_(connection_id),
      outgoing_(places(host.memory, std::span(pages).first(ring_pages))),
      incoming_(places(host.memory, std::span(pages).subspan(ring_pages))) {}

void GuestChannel::send_raw(uint16_t type, uint16_t flags, uint64_t transaction_id,
                            const Bytes& descriptor, const Bytes& payload) {
  const uint32_t begin = batch_end_ ? *batch_end_ : outgoing_.word(GuestRing::write_index);
  const uint32_t end = outgoing_.put_packet(begin, {.type = type,
                                                    .flags = flags,
                                                    .transaction_id = transaction_id,
                                                    .descriptor = descriptor,
                                                    .payload = payload});
  if (batch_end_) {
    batch_end_ = end;
  } else {
    publish(end);
  }
}

// The host has to be woken only if it had read everything before.
void GuestChannel::publish(uint32_t write_index) {
  const uint32_t before = outgoing_.word(GuestRing::write_index);
  outgoing_.set_word(GuestRing::write_index, write_index);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (outgoing_.word(GuestRing::interrupt_mask) != 0) return;
  if (outgoing_.word(GuestRing::read_index) != before) return;
  signal();
}

void GuestChannel::send(uint64_t transaction_id, const Bytes& packet, const GuestBuffer* buffer) {
  if (buffer == nullptr) return send_raw(in_band, 1, transaction_id, {}, packet);
  Fields descriptor(16 + buffer->pages.size() * 8);
  descriptor.set(4, uint32_t{1}).set(8, buffer->byte_count).set(12, buffer->byte_offset);
  for (size_t i = 0; i < buffer->pages.size(); ++i) descriptor.set(16 + i * 8, buffer->pages[i]);
  send_raw(gpa_direct, 1, transaction_id, descriptor.bytes(), packet);
}

std::optional<GuestChannel::Received> GuestChannel::try_receive() {
  const uint32_t begin = incoming_.word(GuestRing::read_index);
  if (begin == incoming_.word(GuestRing::write_index)) return std::nullopt;
  Fields header(16);
  incoming_.get(begin, header.bytes());
  const size_t offset = size_t{header.get<uint16_t>(2)} * 8;
  const size_t length = size_t{header.get<uint16_t>(4)} * 8;
  Received received{.type = header.get<uint16_t>(0),
                    .transaction_id = header.get<uint64_t>(8),
                    .packet = Fields(length - offset)};
  incoming_.get(incoming_.after(begin, offset), received.packet.bytes());
  incoming_.set_word(GuestRing::read_index, incoming_.after(begin, length + 8));
  // The host asked to be told of room.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const uint32_t wanted = incoming_.word(GuestRing::pending_send_size);
  const uint32_t room = incoming_.data_bytes() - waiting_bytes();
  if (wanted != 0 && room > wanted && room - (length + 8) <= wanted) signal();
  return received;
}

uint32_t GuestChannel::waiting_bytes() const {
  const uint32_t size = incoming_.data_bytes();
  const uint32_t read_to = incoming_.word(GuestRing::read_index);
  return (incoming_.word(GuestRing::write_index) + size - read_to) % size;
}

GuestChannel::Received GuestChannel::receive() {
  for (;;) {
    incoming_.set_word(GuestRing::interrupt_mask, 1);
    if (auto received = try_receive()) return *received;
    incoming_.set_word(GuestRing::interrupt_mask, 0);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (auto received = try_receive()) return *received;
    const bool was_told = host_.interrupts.wait_for_flag(relid_, longest_wait);
    expect(was_told, "an interrupt for what it waits for");
  }
}

Fields GuestChannel::exchange(const Bytes& packet, uint64_t transaction_id) {
  send(transaction_id, packet);
  Received answer = receive();
  expect(answer.type == 11 && answer.transaction_id == transaction_id &&
             answer.packet.get<uint32_t>(0) == 1,
         "the completion of what it sent");
  return answer.packet;
}

GuestChannel::Properties GuestChannel::initialize(uint16_t version) {
  expect(status_of(exchange(message(7, packet_size).bytes())) == 0, "initialization to begin");
  Fields query = message(9, packet_size);
  query.set(12, version);
  expect(status_of(exchange(query.bytes())) == 0, "its version to be accepted");
  const Fields answer = exchange(message(10, packet_size).bytes());
  expect(status_of(answer) == 0, "the properties");
  expect(status_of(exchange(message(8, packet_size).bytes())) == 0, "initialization to end");
  return {.max_transfer_bytes = answer.get<uint32_t>(24),
          .max_sub_channel_count = answer.get<uint16_t>(16),
          .flags = answer.get<uint32_t>(20)};
}

Bytes GuestChannel::srb(const Address& address, const Bytes& cdb, Direction direction,
                        uint32_t length) {
  Fields packet(packet_size);
  packet.set(0, uint32_t{3}).set(4, uint32_t{1}).set(12, uint16_t{0x34});
  packet.set(16, uint8_t{2}).set(17, address.path).set(18, address.target).set(19, address.lun);
  packet.set(20, uint8_t(cdb.size())).set(21, uint8_t{20}).set(22, uint8_t(direction));
  packet.set(24, length).set(56, uint32_t{60});
  for (size_t i = 0; i < cdb.size(); ++i) packet.set(28 + i, cdb[i]);
  return packet.bytes();
}

SrbResult GuestChannel::result_of(const Fields& packet) {
  const uint8_t sense_length = packet.get<uint8_t>(21);
  const auto sense = packet.bytes().begin() + 28;
  return {.srb_status = packet.get<uint8_t>(14),
          .scsi_status = packet.get<uint8_t>(15),
          .data_transfer_length = packet.get<uint32_t>(24),
          .sense = (packet.get<uint8_t>(14) & 0x80) != 0
                       ? Bytes(sense, sense + std::min<uint8_t>(sense_length, 20))
                       : Bytes()};
}

SrbResult GuestChannel::execute(const Address& address, const Bytes& cdb, Direction direction,
                                const GuestBuffer& buffer) {
  const uint64_t transaction = next_transaction_++;
  send(transaction, srb(address, cdb, direction, buffer.byte_count),
       buffer.byte_count == 0 ? nullptr : &buffer);
  const Received answer = receive();
  expect(answer.type == 11 && answer.transaction_id == transaction, "its request's completion");
  return result_of(answer.packet);
}

// --- Guest ---

Fields Guest::await_message(uint32_t type) {
  Fields message(host_.take_message());
  expect(message.get<uint32_t>(0) == type, "the message that answers it");
  return message;
}

Guest::Offer Guest::parse_offer(const Fields& message) {
  return {.relid = message.get<uint32_t>(184),
          .connection_id = message.get<uint32_t>(192),
          .sub_channel_index = message.get<uint16_t>(180),
          .interface_type = Bytes(message.bytes().begin() + 8, message.bytes().begin() + 24)};
}

std::vector<Guest::Offer> Guest::connect(uint32_t version) {
  Fields contact = message(14, 40);
  contact.set(8, version).set(16, uint8_t{2});
  host_.post(contact.bytes());
  expect(await_message(15).get<uint8_t>(8) == 1, "its version to be supported");
  host_.post(message(3, 8).bytes());
  std::vector<Offer> offers;
  for (;;) {
    const Fields offered(host_.take_message());
    if (offered.get<uint32_t>(0) == 4) return offers;
    expect(offered.get<uint32_t>(0) == 1, "an offer");
    offers.push_back(parse_offer(offered));
  }
}

Guest::Offer Guest::take_offer() { return parse_offer(await_message(1)); }

// 26 page numbers fit into the first message, 28 into each further one.
void Guest::make_gpadl(uint32_t relid, uint32_t gpadl, const std::vector<uint64_t>& pages) {
  const size_t first_count = std::min<size_t>(pages.size(), 26);
  Fields header = message(8, 28 + first_count * 8);
  header.set(8, relid).set(12, gpadl).set(16, uint16_t(8 + pages.size() * 8));
  header.set(18, uint16_t{1}).set(20, uint32_t(pages.size() * page_bytes));
  for (size_t i = 0; i < first_count; ++i) header.set(28 + i * 8, pages[i]);
  host_.post(header.bytes());
  for (size_t done = first_count; done < pages.size();) {
    const size_t count = std::min<size_t>(pages.size() - done, 28);
    Fields body = message(9, 16 + count * 8);
    body.set(12, gpadl);
    for (size_t i = 0; i < count; ++i) body.set(16 + i * 8, pages[done + i]);
    host_.post(body.bytes());
    done += count;
  }
  expect(await_message(10).get<uint32_t>(16) == 0, "its GPADL to be taken");
}

std::unique_ptr<GuestChannel> Guest::open(const Offer& offer, uint32_t vp) {
  const auto pages = take_pages(size_t{GuestChannel::ring_pages} * 2);
  const uint32_t gpadl = next_gpadl_++;
  gpadls_[offer.relid] = gpadl;
  auto channel = std::make_unique<GuestChannel>(host_, offer.relid, offer.connection_id, pages);
  channel->outgoing().set_word(GuestRing::features, 1);
  channel->incoming().set_word(GuestRing::features, 1);
  make_gpadl(offer.relid, gpadl, pages);
  Fields open = message(5, 148);
  open.set(8, offer.relid).set(12, offer.relid).set(16, gpadl).set(20, vp);
  open.set(24, GuestChannel::ring_pages);
  host_.post(open.bytes());
  const Fields result = await_message(6);
  expect(result.get<uint32_t>(8) == offer.relid && result.get<uint32_t>(16) == 0,
         "its channel to be opened");
  return channel;
}

void Guest::close(const GuestChannel& channel) {
  const uint32_t relid = channel.relid();
  Fields close = message(7, 12);
  close.set(8, relid);
  host_.post(close.bytes());
  Fields teardown = message(11, 16);
  teardown.set(8, relid).set(12, gpadls_.at(relid));
  host_.post(teardown.bytes());
  // Between the two the host may take further channels of the device away.
  for (;;) {
    const Fields answer(host_.take_message());
    if (answer.get<uint32_t>(0) == 12) return;
    expect(answer.get<uint32_t>(0) == 2, "its memory back");
  }
}

void Guest::release(const Offer& offer) {
  Fields released = message(13, 12);
  released.set(8, offer.relid);
  host_.post(released.bytes());
}

std::vector<uint64_t> Guest::take_pages(size_t count) {
  std::vector<uint64_t> pages;
  for (size_t i = 0; i < count; ++i) pages.push_back(next_page_++);
  expect(next_page_ <= host_.memory.page_count(), "to have that much memory");
  return pages;
}

GuestBuffer Guest::take_buffer(uint32_t byte_count) {
  return {.byte_count = byte_count,
          .byte_offset = 0,
          .pages = take_pages((byte_count + page_bytes - 1) / page_bytes)};
}

Bytes Guest::content(const GuestBuffer& buffer) {
  Bytes bytes;
  for (const uint64_t page : buffer.pages)
    bytes.insert(bytes.end(), host_.memory.page(page), host_.memory.page(page) + page_bytes);
  return Bytes(bytes.begin() + buffer.byte_offset,
               bytes.begin() + buffer.byte_offset + buffer.byte_count);
}

void Guest::fill(const GuestBuffer& buffer, const Bytes& bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const size_t at = buffer.byte_offset + i;
    host_.memory.page(buffer.pages.at(at / page_bytes))[at % page_bytes] = bytes[i];
  }
}

}  // namespace vhdkit::tests
