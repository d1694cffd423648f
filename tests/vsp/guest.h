// A storage driver in a guest: does what Linux's hv_vmbus and hv_storvsc do, step by step, by the
// numbers of the guest contract; and, asked to, what they must not.
#pragma once

#include <optional>
#include <utility>

#include "tests/vsp/guest_ring.h"
#include "tests/vsp/host.h"

namespace vhdkit::tests {

using Bytes = std::vector<std::byte>;

// A message or packet by its offsets.
class Fields {
 public:
  explicit Fields(size_t size) : bytes_(size) {}
  explicit Fields(Bytes bytes) : bytes_(std::move(bytes)) {}

  template <class T>
  Fields& set(size_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof value);
    return *this;
  }
  template <class T>
  T get(size_t offset) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  Bytes& bytes() { return bytes_; }
  const Bytes& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }

 private:
  Bytes bytes_;
};

struct SrbResult {
  uint8_t srb_status;
  uint8_t scsi_status;
  uint32_t data_transfer_length;
  Bytes sense;
};

// Where a transfer's bytes are in the guest's memory.
struct GuestBuffer {
  uint32_t byte_count = 0;
  uint32_t byte_offset = 0;  // in the first page
  std::vector<uint64_t> pages;
};

// An open channel. One thread uses it.
class GuestChannel {
 public:
  static constexpr uint32_t ring_pages = 32;  // each way, as hv_storvsc has them

  GuestChannel(Host& host, uint32_t relid, uint32_t connection_id, std::vector<uint64_t> pages);

  // Packets of the storage protocol, 64 bytes. Signals the host where it asks for that.
  void send(uint64_t transaction_id, const Bytes& packet, const GuestBuffer* buffer = nullptr);
  // Several packets that the host sees at once, and at most one signal.
  void begin_batch() { batch_end_ = outgoing_.word(GuestRing::write_index); }
  void end_batch() { publish(*std::exchange(batch_end_, std::nullopt)); }
  // Any packet: type, flags, what stands between header and payload, and the payload.
  void send_raw(uint16_t type, uint16_t flags, uint64_t transaction_id, const Bytes& descriptor,
                const Bytes& payload);

  struct Received {
    uint16_t type;
    uint64_t transaction_id;
    Fields packet;
  };
  // Nothing where the ring is empty.
  std::optional<Received> try_receive();
  // What the host has published and the guest has not collected.
  uint32_t waiting_bytes() const;
  Received receive();  // waits, as the guest does: asleep until its interrupt

  // hv_storvsc's beginning. Returns the properties: largest transfer, sub-channels.
  struct Properties {
    uint32_t max_transfer_bytes;
    uint16_t max_sub_channel_count;
    uint32_t flags;
  };
  Properties initialize(uint16_t version = 0x0602);
  // One packet that is answered, and the answer.
  Fields exchange(const Bytes& packet, uint64_t transaction_id = 0xfffffffffffffffd);

  // One command, and its end.
  struct Address {
    uint8_t path = 0;
    uint8_t target = 0;
    uint8_t lun = 0;
  };
  enum Direction : uint8_t { write = 0, read = 1, none = 2 };
  static Bytes srb(const Address& address, const Bytes& cdb, Direction direction, uint32_t length);
  SrbResult execute(const Address& address, const Bytes& cdb, Direction direction = none,
                    const GuestBuffer& buffer = {});
  static SrbResult result_of(const Fields& packet);

  const GuestRing& outgoing() const { return outgoing_; }
  const GuestRing& incoming() const { return incoming_; }
  uint32_t relid() const { return relid_; }
  void signal() { host_.signal(connection_id_); }

 private:
  void publish(uint32_t write_index);

  Host& host_;
  uint32_t relid_;
  uint32_t connection_id_;
  GuestRing outgoing_;
  GuestRing incoming_;
  std::optional<uint32_t> batch_end_;  // behind what was written and not published
  uint64_t next_transaction_ = 1;
};

class Guest {
 public:
  struct Offer {
    uint32_t relid;
    uint32_t connection_id;
    uint16_t sub_channel_index;
    Bytes interface_type;
  };

  explicit Guest(Host& host) : host_(host) {}

  // initiate_contact and request_offers; the offers, in their order.
  std::vector<Offer> connect(uint32_t version = 0x50003);
  Offer take_offer();
  // Memory for rings, a GPADL of it, open_channel.
  std::unique_ptr<GuestChannel> open(const Offer& offer, uint32_t vp = 0);
  // close_channel, then the GPADL is taken back.
  void close(const GuestChannel& channel);
  // relid_released: the host has taken the offer back.
  void release(const Offer& offer);
  // Pages that nobody else has.
  std::vector<uint64_t> take_pages(size_t count);
  GuestBuffer take_buffer(uint32_t byte_count);
  Bytes content(const GuestBuffer& buffer);
  void fill(const GuestBuffer& buffer, const Bytes& bytes);

  static Offer parse_offer(const Fields& message);

 private:
  void make_gpadl(uint32_t relid, uint32_t gpadl, const std::vector<uint64_t>& pages);
  Fields await_message(uint32_t type);

  Host& host_;
  uint64_t next_page_ = 1;
  uint32_t next_gpadl_ = 0xe1e10;
  std::map<uint32_t, uint32_t> gpadls_;  // by relid
};

}  // namespace vhdkit::tests
