// From the number that a guest signals to whoever waits for it.
#pragma once

#include <cstdint>
#include <optional>
#include <shared_mutex>
#include <vector>

namespace vhdkit::vmbus {

class Doorbell {
 public:
  virtual ~Doorbell() = default;
  // Thread-safe, and never waits: called on the processor that the guest signals from.
  virtual void ring() noexcept = 0;
  // An eventfd that rings it when somebody writes to it; nothing where it has none. It lives as
  // long as the doorbell.
  virtual std::optional<int> event() const noexcept { return std::nullopt; }
};

// Thread-safe.
class Doorbells {
 public:
  // Index: below the count that the table was made for.
  explicit Doorbells(size_t count) : doorbells_(count) {}

  void connect(size_t index, Doorbell& doorbell);
  // Afterwards nobody rings it any more, nor is about to.
  void disconnect(size_t index);
  // False: nobody waits behind that number.
  bool ring(size_t index) const;

 private:
  mutable std::shared_mutex mutex_;
  std::vector<Doorbell*> doorbells_;
};

}  // namespace vhdkit::vmbus
