// Whether the guest still answers: the heartbeat service.
#pragma once

#include "hypervisor/services/service.h"

namespace vhdkit::services {

// Asks every five seconds. A guest that does not answer is asked no second time; its answer,
// whenever it comes, says that it lives again.
class Heartbeat final : public Service {
 public:
  // unknown: it has not answered yet, or does not use the service; paused: it cannot.
  enum class Guest : uint8_t { unknown, running, lost, paused };

  static constexpr std::chrono::seconds interval{5};
  static constexpr std::chrono::seconds lost_after{15};

  explicit Heartbeat(const Host& host);

  Guest guest() const;
  // The guest stands still, until resumed().
  void paused() { is_paused_ = true; }
  void resumed();
  // Since its last answer, or since it runs again; nothing: there was no answer since it agreed on
  // a version.
  std::optional<Clock::duration> silence() const;

 private:
  void agreed() override;
  Result<void> answered(const Answer& answer) override;
  void unanswered(uint8_t) override {}
  void due() override;
  void ended() override {}
  void add_to(nlohmann::ordered_json& report) const override;

  uint64_t sequence_ = 0;
  bool is_asked_ = false;
  bool is_paused_ = false;
  std::optional<Time> last_answer_;
  uint64_t answer_count_ = 0;
  uint32_t application_state_ = 0;
};

}  // namespace vhdkit::services
