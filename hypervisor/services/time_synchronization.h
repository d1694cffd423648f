// Tells the guest the host's time: the time synchronization service.
#pragma once

#include <functional>

#include "hypervisor/services/service.h"

namespace vhdkit::services {

// The same moment by two clocks, both in 100 ns.
struct TimeReading {
  uint64_t host_time;       // since 1601-01-01 UTC
  uint64_t reference_time;  // the partition's
};
// Nothing: no partition runs, or it is paused. Called on the server's thread.
using ReadTime = std::function<std::optional<TimeReading>()>;

// The host's clock in the service's terms.
uint64_t host_time_now();

// Sets the guest's clock once it has agreed on a version, and after resumed(); then sends samples
// every five seconds, which a guest may steer its clock by.
class TimeSynchronization final : public Service {
 public:
  static constexpr std::chrono::seconds interval{5};
  static constexpr std::chrono::seconds patience{20};

  TimeSynchronization(const Host& host, ReadTime read_time);

  // The guest stood still for some time.
  void resumed();

 private:
  void agreed() override;
  Result<void> answered(const Answer& answer) override;
  void unanswered(uint8_t transaction) override;
  void due() override;
  void ended() override;
  void add_to(nlohmann::ordered_json& report) const override;

  Result<uint8_t> tell(const TimeReading& reading, uint8_t flags);

  ReadTime read_time_;
  bool is_to_be_set_ = false;
  std::optional<uint8_t> asked_;
  bool asked_to_set_ = false;
  uint64_t set_count_ = 0;
  uint64_t sample_count_ = 0;
};

}  // namespace vhdkit::services
