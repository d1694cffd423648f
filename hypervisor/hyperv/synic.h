// The synthetic interrupt controllers of the partition's processors: messages and event flags.
// TLFS, "Synthetic Interrupt Controller" and "Inter-Partition Communication".
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "hypervisor/hyperv/wires.h"
#include "vmbus/guest_memory.h"
#include "vmbus/partition.h"

namespace vhdkit::hypervisor {

// Thread-safe. The memory outlives it.
class Synic final : public vmbus::Partition {
 public:
  static constexpr unsigned sint_count = 16;

  // on_free: a slot that was taken when a message came may be free now. Called on the thread of the
  // processor that said so; it does not call back.
  Synic(vmbus::GuestMemory& memory, unsigned vp_count, std::function<void()> on_free);

  // As when the processors are switched on. wires: of the machine that they run in from now on;
  // null while there is none. REQUIRES: no processor runs, and nobody has a signal connected.
  void reset(Wires* wires);

  // --- the guest's registers, by their numbers: TLFS, "SynIC MSRs" ---

  static bool has_register(uint32_t index);
  // REQUIRES: has_register(index), and the processor exists.
  uint64_t read(uint32_t vp, uint32_t index) const;
  // False: the guest may not write that.
  bool write(uint32_t vp, uint32_t index, uint64_t value);

  // --- the host ---

  bool post_message(vmbus::Destination destination, std::span<const std::byte> message) override;
  void set_event_flag(vmbus::Destination destination, uint32_t flag) override;
  void connect_signal(uint32_t connection_id, int event) override;
  void disconnect_signal(uint32_t connection_id, int event) override;

 private:
  // One processor's. Message slots are changed under the mutex; the rest may be read at any time.
  struct Controller {
    std::mutex mutex;
    std::atomic<uint64_t> control = 0;
    std::atomic<uint64_t> event_flags_register = 0;
    std::atomic<uint64_t> messages_register = 0;
    std::array<std::atomic<uint64_t>, sint_count> sints;
    // Null unless it is enabled and leads to RAM.
    std::atomic<std::byte*> event_flags_page = nullptr;
    std::atomic<std::byte*> messages_page = nullptr;
  };

  Controller* controller_of(const vmbus::Destination& destination) const;
  bool write_sint(uint32_t vp, unsigned sint, uint64_t value);
  std::byte* page_of(uint64_t value) const;
  bool deliver(Controller& controller, const vmbus::Destination& destination,
               std::span<const std::byte> message);
  void interrupt(const Controller& controller, const vmbus::Destination& destination);

  vmbus::GuestMemory& memory_;
  std::function<void()> on_free_;
  std::vector<std::unique_ptr<Controller>> controllers_;  // by processor
  std::atomic<Wires*> wires_ = nullptr;
};

}  // namespace vhdkit::hypervisor
