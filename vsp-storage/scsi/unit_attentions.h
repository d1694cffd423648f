// What a unit has to tell each of its initiators before it does their next command.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <optional>

#include "vsp-storage/scsi/sense.h"

namespace vhdkit::scsi {

// In the order in which they are told: what says more comes first.
enum class Attention : uint8_t {
  power_on,                 // 29/00, told to everybody once
  reset,                    // 29/03, of the logical unit
  medium_changed,           // 28/00
  capacity_changed,         // 2A/09
  mode_changed,             // 2A/01
  reservations_preempted,   // 2A/03
  reservations_released,    // 2A/04
  registrations_preempted,  // 2A/05
  luns_changed,             // 3F/0E
};

Sense sense_of(Attention attention);

// SAM-5 5.14. Thread-safe; is_pending() takes no lock. An initiator is known from its first command
// on, and has Attention::power_on then. Of more than max_initiators the further ones are told
// nothing, rather than always the same.
class UnitAttentions {
 public:
  static constexpr size_t max_initiators = 64;

  // Whether take() may have something for it.
  bool is_pending(uint64_t initiator) const;
  // The next one, which is told herewith.
  std::optional<Attention> take(uint64_t initiator);
  // Without being told.
  void forget(uint64_t initiator, Attention attention);

  void establish(Attention attention);
  // For everybody, instead of all that was pending.
  void power_on();
  // For all but the one who caused it.
  void establish_for_others(Attention attention, uint64_t initiator);
  void establish_for(Attention attention, uint64_t initiator);

 private:
  struct Known {
    std::atomic<uint64_t> initiator = 0;
    std::atomic<uint32_t> pending = 0;  // a bit for each Attention
  };
  static constexpr uint32_t bit(Attention attention) { return uint32_t{1} << uint8_t(attention); }

  const Known* find(uint64_t initiator) const;
  Known* find_or_add(uint64_t initiator);

  std::mutex mutex_;  // of everything that changes
  std::array<Known, max_initiators> known_;
  std::atomic<size_t> known_count_ = 0;
};

}  // namespace vhdkit::scsi
