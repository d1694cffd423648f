// Names, addresses and notes that a guest and its host give each other: the key-value exchange
// service. Linux answers by a daemon, hv_kvp_daemon.
#pragma once

#include <deque>
#include <functional>

#include "hypervisor/services/service.h"
#include "hypervisor/services/services.h"

namespace vhdkit::services {

// Are called once, on the server's thread. Errors: those of KeyValueExchange.
using ValuesDone = std::function<void(Result<std::vector<KeyValue>>)>;

// One request at a time is with the guest; further ones wait, sixteen at most. Reads what the guest
// says of itself every half minute, without being asked.
//
// Errors of all requests: not_found (the guest does not take part, or has no such key); busy (too
// many wait); invalid_argument (a key of more than 255 UTF-16 units or of none, a value of more
// than 1023); io (the guest could not do it, did not answer, or is gone).
class KeyValueExchange final : public Service {
 public:
  static constexpr std::chrono::seconds refresh_interval{30};
  // Linux waits for its daemon for thirty seconds.
  static constexpr std::chrono::seconds patience{40};
  static constexpr size_t max_waiting = 16;
  static constexpr uint32_t max_entries = 256;  // that are read of a pool

  explicit KeyValueExchange(const Host& host);

  // All of a pool.
  void enumerate(Pool pool, ValuesDone done);
  // One value: the result has one entry.
  void get(Pool pool, const std::string& key, ValuesDone done);
  // The result is empty.
  void set(Pool pool, const KeyValue& entry, ValuesDone done);
  void remove(Pool pool, const std::string& key, ValuesDone done);

  // What the guest last said of itself; stays when it is gone.
  const std::vector<KeyValue>& guest_values() const { return guest_values_; }

 private:
  struct Job {
    KeyValueOperation operation;
    Pool pool;
    KeyValue entry;
    ValuesDone done;
    std::vector<KeyValue> found{};
  };

  void agreed() override;
  Result<void> answered(const Answer& answer) override;
  void unanswered(uint8_t transaction) override;
  void due() override;
  void ended() override;
  void add_to(nlohmann::ordered_json& report) const override;

  void begin(Job job);
  Result<void> check(const Job& job) const;
  void go_on();
  Result<uint8_t> ask(const Job& job);
  Result<void> take(const Answer& answer);
  Result<void> take_enumerated(std::span<const std::byte> body);
  void finish(Result<std::vector<KeyValue>> outcome);
  void finish(const Error& error);

  std::deque<Job> jobs_;  // the first one is with the guest
  std::optional<uint8_t> asked_;
  std::vector<KeyValue> guest_values_;
};

}  // namespace vhdkit::services
