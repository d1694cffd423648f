// A storage channel and both ends of its rings on one thread, with nobody around it: for what has
// to happen in a known order, or to be counted.
#pragma once

#include "tests/vsp/guest_ring.h"
#include "vmbus/test_memory.h"
#include "vmbus/test_partition.h"
#include "vsp-storage/storvsp/channel.h"

namespace vhdkit::tests {

class LocalChannel final : public storvsp::Channel::Owner {
 public:
  // Each way.
  static constexpr uint64_t ring_pages = 32;
  // Behind the rings, for data.
  static constexpr uint64_t first_data_page = 2 * ring_pages;

  // All of them outlive it. What it serves has the negotiation behind it after a few turns.
  LocalChannel(storvsp::Worker& worker, const storvsp::Channel::Options& options,
               uint64_t data_page_count);

  void attach(uint8_t lun, std::shared_ptr<scsi::LogicalUnit> unit,
              std::shared_ptr<disk::Disk> disk);

  // A packet: descriptor and payload in multiples of 8 bytes.
  void send(uint16_t type, uint64_t transaction_id, std::span<const std::byte> descriptor,
            std::span<const std::byte> payload);
  // A command whose data is one page. The payload is an execute_srb.
  void send_with_page(uint64_t transaction_id, uint64_t page, uint32_t byte_count,
                      std::span<const std::byte> payload);
  // How many packets have come, all of which are taken out.
  unsigned collect();

  storvsp::Channel& channel() { return *channel_; }
  // Another channel goes on where this one was: pauses, saves, ends and restores.
  Async<void> move_on();
  const GuestRing& outgoing() const { return outgoing_; }
  const GuestRing& incoming() const { return incoming_; }
  vmbus::TestMemory& memory() { return memory_; }
  vmbus::TestPartition& partition() { return partition_; }
  bool is_broken() const { return break_count_ > 0; }
  // How often the channel has said that it is.
  unsigned break_count() const { return break_count_; }
  const storvsp::UnitCounters& counters(uint8_t lun) const { return *units_[lun]->counters; }

 private:
  void create_sub_channels(uint16_t) override {}
  void broken(std::string) override { ++break_count_; }

  void make_channel(const storvsp::Channel::Saved* saved);
  vmbus::PageList pages(uint64_t first);
  vmbus::OpenedChannel opened();
  uint32_t write_index() const;

  storvsp::Worker& worker_;
  storvsp::Channel::Options options_;
  vmbus::TestMemory memory_;
  vmbus::TestPartition partition_;
  scsi::Target target_;
  storvsp::UnitTable units_;
  unsigned break_count_ = 0;
  GuestRing outgoing_;
  GuestRing incoming_;
  std::unique_ptr<storvsp::Channel> channel_;
};

}  // namespace vhdkit::tests
