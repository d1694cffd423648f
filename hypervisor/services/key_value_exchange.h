// Names and addresses that a guest says of itself: the key-value exchange service. Linux answers by
// a daemon, hv_kvp_daemon.
#pragma once

#include <string>
#include <vector>

#include "hypervisor/services/service.h"

namespace vhdkit::services {

// Reads what the guest says of itself every half minute, without being asked.
class KeyValueExchange final : public Service {
 public:
  static constexpr std::chrono::seconds refresh_interval{30};
  // Linux waits for its daemon for thirty seconds.
  static constexpr std::chrono::seconds patience{40};
  static constexpr size_t max_entries = 256;  // that are read

  explicit KeyValueExchange(const Host& host);

 private:
  struct KeyValue {
    std::string key;  // UTF-8, both
    std::string value;
  };

  void agreed() override;
  Result<void> answered(const Answer& answer) override;
  void unanswered(uint8_t transaction) override;
  void due() override;
  void ended() override;
  // What it last said, as "guest"; that stays when it is gone.
  void add_to(nlohmann::ordered_json& report) const override;

  void ask_for_next();
  Result<void> take(std::span<const std::byte> body);
  void finish();

  std::optional<uint8_t> asked_;  // by this request
  std::vector<KeyValue> found_;   // of what is being read
  std::vector<KeyValue> guest_values_;
};

}  // namespace vhdkit::services
