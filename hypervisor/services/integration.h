// All integration services of a partition.
#pragma once

#include <array>

#include "hypervisor/services/heartbeat.h"
#include "hypervisor/services/key_value_exchange.h"
#include "hypervisor/services/shutdown.h"
#include "hypervisor/services/time_synchronization.h"
#include "hypervisor/services/volume_snapshot.h"

namespace vhdkit::services {

// Bound to the server's thread, whose loop serves the mailbox; its alarm is this object's. All of
// the host outlives it.
class Integration final : private Timekeeper {
 public:
  struct Host {
    vmbus::Server& server;
    vmbus::Partition& partition;
    async::Mailbox& mailbox;
    ReadTime read_time;
  };

  explicit Integration(const Host& host);
  ~Integration() override;  // REQUIRES: never offered, or is_gone()

  // Errors: those of Server::offer; then what was offered has to be rescinded.
  Result<void> offer();
  // Takes all of them away from the guest; is_gone() once that has let go.
  void rescind();
  bool is_gone() const;
  // The guest does not run any more: whoever waits for its answers is told that it is gone.
  void guest_is_off();

  Shutdown& shutdown() { return shutdown_; }
  Heartbeat& heartbeat() { return heartbeat_; }
  TimeSynchronization& time_synchronization() { return time_synchronization_; }
  VolumeSnapshot& volume_snapshot() { return volume_snapshot_; }

  // As Services::status().
  nlohmann::ordered_json report() const;

 private:
  Time now() const override { return Clock::now(); }
  void wake_at(Time when) override;
  void look_at_clock();
  Service::Host service_host(const Host& host);

  async::Mailbox& mailbox_;
  Time alarm_ = never;
  async::LetterTo<Integration, &Integration::look_at_clock> alarm_letter_;
  Shutdown shutdown_;
  Heartbeat heartbeat_;
  TimeSynchronization time_synchronization_;
  KeyValueExchange key_value_exchange_;
  VolumeSnapshot volume_snapshot_;
  std::array<Service*, 5> services_;
};

}  // namespace vhdkit::services
