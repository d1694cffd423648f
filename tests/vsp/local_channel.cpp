#include "tests/vsp/local_channel.h"

#include <array>
#include <cassert>

namespace vhdkit::tests {

LocalChannel::LocalChannel(storvsp::Worker& worker, const storvsp::Channel::Options& options,
                           uint64_t data_page_count)
    : worker_(worker),
      options_(options),
      memory_(first_data_page + data_page_count),
      outgoing_(pages(0)),
      incoming_(pages(ring_pages)) {
  make_channel(nullptr);
  for (const int operation : {7, 9, 10, 8}) {
    std::array<std::byte, 64> packet{};
    packet[0] = std::byte(operation);
    packet[12] = std::byte{0x02};  // version 6.2
    packet[13] = std::byte{0x06};
    send(6, 0, {}, packet);
  }
}

void LocalChannel::make_channel(const storvsp::Channel::Saved* saved) {
  channel_ = std::make_unique<storvsp::Channel>(worker_, memory_, partition_, target_, units_,
                                                *this, opened(), options_, saved);
}

Async<void> LocalChannel::move_on() {
  CO_TRY(co_await channel_->pause());
  const storvsp::Channel::Saved saved = channel_->save();
  CO_TRY(co_await channel_->close());
  make_channel(&saved);
  co_return Result<void>();
}

void LocalChannel::attach(uint8_t lun, std::shared_ptr<scsi::LogicalUnit> unit,
                          std::shared_ptr<disk::Disk> disk) {
  [[maybe_unused]] const auto attached = target_.attach(lun, unit);
  assert(attached);
  units_[lun] = std::make_shared<storvsp::UnitAccess>();
  units_[lun]->unit = std::move(unit);
  units_[lun]->disk = std::move(disk);
}

void LocalChannel::send(uint16_t type, uint64_t transaction_id,
                        std::span<const std::byte> descriptor, std::span<const std::byte> payload) {
  const uint32_t end = outgoing_.put_packet(write_index(), {.type = type,
                                                            .transaction_id = transaction_id,
                                                            .descriptor = descriptor,
                                                            .payload = payload});
  outgoing_.set_word(GuestRing::write_index, end);
}

void LocalChannel::send_with_page(uint64_t transaction_id, uint64_t page, uint32_t byte_count,
                                  std::span<const std::byte> payload) {
  const std::array<uint64_t, 3> descriptor = {uint64_t{1} << 32, byte_count, page};
  send(9, transaction_id, std::as_bytes(std::span(descriptor)), payload);
}

unsigned LocalChannel::collect() {
  unsigned count = 0;
  uint32_t at = incoming_.word(GuestRing::read_index);
  const uint32_t end = incoming_.word(GuestRing::write_index);
  while (at != end) {
    std::array<uint16_t, 4> lengths;
    incoming_.get(at, std::as_writable_bytes(std::span(lengths)));
    at = incoming_.after(at, size_t{lengths[2]} * 8 + 8);
    ++count;
  }
  incoming_.set_word(GuestRing::read_index, end);
  return count;
}

vmbus::PageList LocalChannel::pages(uint64_t first) {
  vmbus::PageList list;
  for (uint64_t i = 0; i < ring_pages; ++i) list.push_back(memory_.page(first + i));
  return list;
}

vmbus::OpenedChannel LocalChannel::opened() {
  return {.relid = 1,
          .from_guest = *vmbus::Ring::create(pages(0)),
          .to_guest = *vmbus::Ring::create(pages(ring_pages)),
          .destination = {},
          .user_data = {}};
}

// Whatever was written there meanwhile.
uint32_t LocalChannel::write_index() const {
  return outgoing_.word(GuestRing::write_index) % outgoing_.data_bytes() / 8 * 8;
}

}  // namespace vhdkit::tests
