// A partition for tests: keeps what the guest would have received.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "vmbus/partition.h"

namespace vhdkit::vmbus {

class TestPartition final : public Partition {
 public:
  // So that a test which counts allocations need not count its own.
  TestPartition() { flags_.reserve(1024); }

  using Message = std::vector<std::byte>;
  struct Flag {
    Destination destination;
    uint32_t flag;

    friend bool operator==(const Flag&, const Flag&) = default;
  };

  bool post_message(Destination destination, std::span<const std::byte> message) override {
    const std::lock_guard lock(mutex_);
    if (messages_.size() >= slot_count) return false;
    messages_.emplace_back(message.begin(), message.end());
    message_destination = destination;
    return true;
  }
  void set_event_flag(Destination destination, uint32_t flag) override {
    const std::lock_guard lock(mutex_);
    flags_.push_back({destination, flag});
  }
  void connect_signal(uint32_t connection_id, int event) override {
    signal_events[connection_id] = event;
  }
  void disconnect_signal(uint32_t connection_id, int event) override {
    if (signal_events.at(connection_id) == event) signal_events.erase(connection_id);
  }

  // Takes the oldest message out; empty where there is none.
  Message collect() {
    const std::lock_guard lock(mutex_);
    if (messages_.empty()) return {};
    Message message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }
  std::vector<Flag> collect_flags() {
    const std::lock_guard lock(mutex_);
    std::vector<Flag> flags = flags_;
    flags_.clear();
    return flags;
  }

  size_t slot_count = 1;
  Destination message_destination;
  std::map<uint32_t, int> signal_events;  // by connection

 private:
  std::mutex mutex_;
  std::deque<Message> messages_;
  std::vector<Flag> flags_;
};

}  // namespace vhdkit::vmbus
