// Brings the guest's file systems to rest for a moment, so that a snapshot of its disks is
// consistent: the volume snapshot service. Linux answers by a daemon, hv_vss_daemon.
#pragma once

#include "hypervisor/services/service.h"
#include "hypervisor/services/shutdown.h"

namespace vhdkit::services {

// Whatever goes wrong, the guest is told to thaw: where it did not say that it froze, where it did
// not answer, and where nobody thaws it for a minute.
class VolumeSnapshot final : public Service {
 public:
  enum class Phase : uint8_t { idle, preparing, freezing, frozen, thawing };

  struct Patience {
    std::chrono::milliseconds freeze{60'000};  // until the guest says that it is frozen
    std::chrono::milliseconds thaw{30'000};
    std::chrono::milliseconds frozen{60'000};  // until it is thawed without being asked
  };

  VolumeSnapshot(const Host& host, const Patience& patience);
  explicit VolumeSnapshot(const Host& host) : VolumeSnapshot(host, Patience()) {}

  // done: nothing of the guest writes to its file systems. Errors: those of request(); busy (it is
  // frozen, or about to be, or thawing); io (it cannot, does not answer,
  // or is gone).
  void freeze(Done done);
  // Errors: not_found (it was not frozen); busy (being frozen, or thawing); io (it was thawed
  // before, since that took too long: a snapshot may be torn; it does not answer, or is gone).
  void thaw(Done done);

  Phase phase() const { return phase_; }

 private:
  void agreed() override {}
  Result<void> answered(const Answer& answer) override;
  void unanswered(uint8_t) override {}
  void due() override;
  void ended() override;
  void add_to(nlohmann::ordered_json& report) const override;

  Result<void> prepare();
  Result<uint8_t> ask(SnapshotOperation operation);
  Result<void> take_features(const Answer& answer);
  void take_frozen(const Answer& answer);
  void begin_to_thaw();
  void finish(const Result<void>& outcome);

  Patience patience_;
  Phase phase_ = Phase::idle;
  std::optional<uint8_t> asked_;  // what this phase waits for
  Done done_;
  bool was_thawed_early_ = false;
  uint64_t freeze_count_ = 0;
};

}  // namespace vhdkit::services
