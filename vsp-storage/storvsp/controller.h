// A storage controller as its guest sees it: a device with channels, and the units behind them.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>

#include "vmbus/server.h"
#include "vsp-storage/storvsp/channel.h"

namespace vhdkit::storvsp {

// Bound to the server's thread, whose loop serves the mailbox. Server, memory, partition, workers
// and mailbox outlive it.
class Controller final {
 public:
  struct Options {
    Variant variant = Variant::scsi;
    Guid instance;                       // the guest's name for it, so it should stay
    uint16_t max_sub_channel_count = 0;  // beside the first one; scsi only
    // Its guest, for units that belong to several controllers: reservations are kept for each.
    uint64_t initiator = 0;
    unsigned queue_depth = 256;  // of each channel
    uint32_t max_transfer_bytes = uint32_t{1} << 20;
  };
  // How one worker reaches a unit's disk: views of the same disk, each of its worker's loop.
  using DiskView = std::shared_ptr<disk::Disk>;

  struct Host {
    vmbus::Server& server;
    vmbus::GuestMemory& memory;
    vmbus::Partition& partition;
    async::Mailbox& mailbox;
    std::span<Worker* const> workers;  // channels are spread over them
  };

  Controller(const Host& host, const Options& options);
  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;
  ~Controller();  // REQUIRES: is_gone()

  // Offers its first channel. Errors: those of Server::offer.
  Result<void> offer();
  // Takes it away from the guest; is_gone() once the guest has let go.
  void rescind();
  bool is_gone() const { return ports_.empty(); }

  struct Unit {
    std::shared_ptr<scsi::LogicalUnit> unit;
    std::vector<DiskView> views;  // one for each worker, in their order
    std::vector<Share> shares;    // of limits, its own and that of a pool
  };
  // The guest is told. Errors: exists; out_of_range.
  Result<void> attach(uint8_t lun, Unit unit);
  // Requests that run are finished with the views that they have; those that wait for a limit are
  // aborted, and long ones after their present piece. Errors: not_found.
  Result<void> detach(uint8_t lun);

  // The unit's disk is another one from now on; requests that run are finished with the views that
  // they have. The guest is told by the unit, if at all. Errors: not_found.
  Result<void> exchange(uint8_t lun, std::vector<DiskView> views);
  // The unit's disk has another size, which these views show. The guest is told: by the unit, whose
  // attention it meets at its next command, and as when units come, so that it sends one.
  Result<void> change_capacity(uint8_t lun, std::vector<DiskView> views);

  // The guest's power was off: its units are as at first. REQUIRES: no channel is open.
  void power_on();

  // Channels and units with what was counted of them.
  nlohmann::ordered_json report() const;

 private:
  class Port;

  void offer_sub_channels(uint16_t count);
  void rescind_sub_channels();
  void announce_units();

  Host host_;
  Options options_;
  scsi::Target target_;
  std::vector<UnitTable> tables_;  // by worker; the channels keep theirs
  // By sub-channel index; 0 is the first channel. What the guest has been told to let go of and has
  // not yet stands beside its successor.
  std::multimap<uint16_t, std::unique_ptr<Port>> ports_;
};

}  // namespace vhdkit::storvsp
