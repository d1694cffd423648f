// A guest with the driver of one integration service, as Linux's hv_utils has them, and the server
// and clock around it, all on one thread: by the numbers of the guest contract, with nothing of
// hypervisor/services/protocol.h.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>

#include "async/task_group.h"
#include "hypervisor/services/service.h"
#include "tests/vsp/guest_ring.h"
#include "vmbus/test_memory.h"
#include "vmbus/test_partition.h"

namespace vhdkit::tests {

using Bytes = std::vector<std::byte>;

// Also outside a test program: what the host may never do ends it.
inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "the guest expects: %s\n", what);
  std::abort();
}

// The payload of a service's packet, by offsets: a pipe's header, the message's header, its body.
class ServiceMessage {
 public:
  static constexpr size_t body_offset = 28;

  explicit ServiceMessage(size_t body_bytes) : bytes_(body_offset + body_bytes) {
    set(0, uint32_t{1}).set(4, uint32_t(20 + body_bytes)).set(18, uint16_t(body_bytes));
  }
  explicit ServiceMessage(Bytes bytes) : bytes_(std::move(bytes)) {}

  template <class T>
  T get(size_t offset) const {
    T value;
    expect(offset + sizeof value <= bytes_.size(), "a message that is long enough");
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  template <class T>
  ServiceMessage& set(size_t offset, T value) {
    expect(offset + sizeof value <= bytes_.size(), "a message that is long enough");
    std::memcpy(bytes_.data() + offset, &value, sizeof value);
    return *this;
  }
  template <class T>
  T body(size_t offset) const {
    return get<T>(body_offset + offset);
  }
  template <class T>
  ServiceMessage& set_body(size_t offset, T value) {
    return set(body_offset + offset, value);
  }

  uint16_t type() const { return get<uint16_t>(12); }
  uint8_t transaction() const { return get<uint8_t>(24); }
  size_t body_bytes() const { return get<uint16_t>(18); }
  Bytes& bytes() { return bytes_; }
  const Bytes& bytes() const { return bytes_; }

  // What a guest sends back: the same bytes as an answer.
  ServiceMessage answer(uint32_t status = 0) const {
    ServiceMessage answer(bytes_);
    return answer.set(20, status).set(25, uint8_t{5});
  }

 private:
  Bytes bytes_;
};

// A version as the upper and lower half of a word.
constexpr uint32_t version_word(uint16_t major, uint16_t minor) {
  return uint32_t{major} | uint32_t{minor} << 16;
}

class ServiceGuest final : public services::Timekeeper {
 public:
  static constexpr uint32_t ring_pages = 4;  // each way, as hv_utils has them

  // The engine matters to run_until() alone, and the synchronous one is made at once.
  explicit ServiceGuest(async::Engine engine = async::Engine::synchronous)
      : memory(2 * ring_pages + 1),
        loop_(std::move(*async::Loop::create({.engine = engine}))),
        mailbox_(*loop_),
        server_(memory, partition, [this](const std::string& line) { log.push_back(line); }) {
    partition.slot_count = 1000;
  }
  ~ServiceGuest() override { expect(service_ == nullptr, "to have left"); }

  services::Service::Host host() {
    return {.server = server_, .partition = partition, .mailbox = mailbox_, .timekeeper = *this};
  }
  // Offers the service, which is the only one; leave() before it goes.
  void attach(services::Service& service) {
    service_ = &service;
    expect(service.offer().has_value(), "the service to be offered");
    connect();
  }
  void leave() {
    switch_off();
    service_->rescind();
    turn();
    expect(service_->is_gone(), "the offer to be taken back");
    service_ = nullptr;
  }

  void switch_off() {
    server_.reset();
    turn();
  }

  // --- the channel ---

  // Of all offers the one whose class begins so, or the last one; it is kept as it came.
  void connect(std::optional<uint32_t> interface_type = std::nullopt) {
    offers.clear();
    post(14, 40, {{8, 0x50003}, {16, 2}});
    post(3, 8, {});
    for (Bytes message = partition.collect(); !message.empty(); message = partition.collect()) {
      if (word(message, 0) != 1) continue;
      offers.push_back(message);
      if (!interface_type || word(message, 8) == *interface_type) offer = message;
    }
    expect(offer.size() == 196, "an offer");
  }
  std::vector<Bytes> offers;
  Bytes offer;
  uint32_t relid() const { return word(offer, 184); }

  // Opens the channel, and answers nothing.
  void open() {
    outgoing = GuestRing(pages(1));
    incoming = GuestRing(pages(1 + ring_pages));
    for (const GuestRing* const ring : {&outgoing, &incoming}) {
      for (const size_t index : {GuestRing::write_index, GuestRing::read_index})
        ring->set_word(index, 0);
      ring->set_word(GuestRing::features, 1);
    }
    constexpr uint32_t page_count = 2 * ring_pages;
    std::vector<std::pair<size_t, uint32_t>> list = {
        {8, relid()}, {12, 1}, {16, (8 + page_count * 8) | 1U << 16}, {20, page_count * 4096}};
    for (uint32_t i = 0; i < page_count; ++i) list.emplace_back(28 + i * 8, 1 + i);
    post(8, 28 + page_count * 8, list);
    post(5, 148, {{8, relid()}, {12, relid()}, {16, 1}, {24, ring_pages}});
    turn();
  }
  void close() {
    post(7, 12, {{8, relid()}});
    turn();
    post(11, 16, {{8, relid()}, {12, 1}});
    turn();
  }
  // Wants its signals on another processor.
  void modify(uint32_t vp) { post(22, 16, {{8, relid()}, {12, vp}}); }
  // Opens the channel and takes the offered framework and version.
  void open_with(uint32_t framework, uint32_t version) {
    open();
    send(choice(take(), framework, version));
  }
  // hv_utils' answer to a negotiation: two counts, then what it has chosen.
  static ServiceMessage choice(const ServiceMessage& negotiation, uint32_t framework,
                               uint32_t version, uint16_t count = 1) {
    ServiceMessage answer = negotiation.answer();
    answer.set(18, uint16_t{0x10}).set_body(0, count).set_body(2, count);
    return answer.set_body(8, framework).set_body(12, version);
  }

  // What the host has sent, if it has; that it signalled is required.
  std::optional<ServiceMessage> receive() {
    const uint32_t begin = incoming.word(GuestRing::read_index);
    if (begin == incoming.word(GuestRing::write_index)) return std::nullopt;
    is_signalled_ |= !partition.collect_flags().empty();
    expect(is_signalled_, "a signal for what it was sent");
    std::array<uint16_t, 8> header{};
    incoming.get(begin, std::as_writable_bytes(std::span(header)));
    expect(header[0] == 6, "packets that are in band");
    const size_t offset = size_t{header[1]} * 8;
    const size_t length = size_t{header[2]} * 8;
    Bytes payload(length - offset);
    incoming.get(incoming.after(begin, offset), payload);
    incoming.set_word(GuestRing::read_index, incoming.after(begin, length + 8));
    if (!has_more()) is_signalled_ = false;
    return ServiceMessage(std::move(payload));
  }
  bool has_more() const {
    return incoming.word(GuestRing::read_index) != incoming.word(GuestRing::write_index);
  }
  // One message that is required to be there.
  ServiceMessage take() {
    auto message = receive();
    expect(message.has_value(), "a message");
    return *message;
  }

  void send(const ServiceMessage& message) { send_raw(6, message.bytes()); }
  void send_raw(uint16_t type, const Bytes& payload) {
    put(type, payload);
    signal();
  }
  // Into the ring, without a signal.
  void put(uint16_t type, const Bytes& payload) const {
    const uint32_t at = outgoing.word(GuestRing::write_index);
    outgoing.set_word(GuestRing::write_index, outgoing.put_packet(at, {.type = type,
                                                                       .flags = 0,
                                                                       .transaction_id = 0x77,
                                                                       .descriptor = {},
                                                                       .payload = payload}));
  }
  void signal() {
    (void)server_.signal(0x2000 | relid());
    turn();
  }
  // Lets real time pass. Once: the mailbox is closed afterwards.
  template <class Condition>
  void run_until(Condition holds, std::chrono::seconds longest) {
    loop_->run(serve_until(holds, std::chrono::steady_clock::now() + longest));
  }
  // What lies in the mailbox is done.
  void turn() {
    // Letters may bring letters.
    for (int i = 0; i < 4; ++i) mailbox_.look();
  }
  bool is_broken() const { return service_->state() == services::Service::State::broken; }

  // --- time ---

  services::Time now() const override { return now_; }
  void wake_at(services::Time when) override { wishes_.insert(when); }
  // The service is woken when it wished to be, and never else.
  void pass(std::chrono::milliseconds time) {
    const services::Time end = now_ + time;
    while (!wishes_.empty() && *wishes_.begin() <= end) {
      now_ = std::max(now_, *wishes_.begin());
      wishes_.erase(wishes_.begin());
      service_->look_at_clock(now_);
      if (service_->next_time() != services::never) wake_at(service_->next_time());
      turn();
    }
    now_ = end;
  }

  vmbus::TestMemory memory;
  vmbus::TestPartition partition;
  std::vector<std::string> log;
  GuestRing outgoing{{}};
  GuestRing incoming{{}};

 private:
  template <class Condition>
  async::Task<void> serve_until(Condition holds, std::chrono::steady_clock::time_point end) {
    async::TaskGroup served;
    served.start(serve_mailbox());
    while (!holds() && std::chrono::steady_clock::now() < end)
      co_await loop_->sleep(std::chrono::milliseconds(20));
    mailbox_.close();
    [[maybe_unused]] const auto finished = co_await served.finish();
  }
  Async<void> serve_mailbox() {
    co_await mailbox_.serve();
    co_return Result<void>();
  }
  static uint32_t word(const Bytes& bytes, size_t offset) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  }
  void post(uint32_t type, size_t size, const std::vector<std::pair<size_t, uint32_t>>& words) {
    Bytes message(size);
    std::memcpy(message.data(), &type, sizeof type);
    for (const auto& [offset, value] : words)
      std::memcpy(message.data() + offset, &value, sizeof value);
    expect(server_.receive(message), "to be heard");
  }
  std::vector<std::byte*> pages(uint64_t first) {
    std::vector<std::byte*> list;
    for (uint64_t i = 0; i < ring_pages; ++i) list.push_back(memory.page(first + i));
    return list;
  }

  std::unique_ptr<async::Loop> loop_;
  async::Mailbox mailbox_;
  vmbus::Server server_;
  services::Service* service_ = nullptr;
  services::Time now_ = services::Time() + std::chrono::hours(1);
  std::multiset<services::Time> wishes_;
  bool is_signalled_ = false;
};

}  // namespace vhdkit::tests
