// Who may use a unit while somebody has reserved it.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "vsp-storage/scsi/unit_attentions.h"

namespace vhdkit::scsi {

class ParameterData;

// SPC-4 table 62.
enum class ReservationType : uint8_t {
  write_exclusive = 1,
  exclusive_access = 3,
  write_exclusive_registrants_only = 5,
  exclusive_access_registrants_only = 6,
  write_exclusive_all_registrants = 7,
  exclusive_access_all_registrants = 8,
};

// What a command is in the tables of conflicts (SPC-4 table 68, SBC-3 table 13).
enum class Conduct : uint8_t {
  always,    // done for everybody
  harmless,  // done for everybody, but not while RESERVE keeps the unit (SPC-2 table 10)
  reads,     // done while others may still read
  writes,    // done for who holds the reservation, and registrants where it is theirs as well
};

// PERSISTENT RESERVE OUT, SPC-4 6.16.
enum class ReserveAction : uint8_t {
  register_key = 0x00,
  reserve = 0x01,
  release = 0x02,
  clear = 0x03,
  preempt = 0x04,
  preempt_and_abort = 0x05,
  register_and_ignore = 0x06,
};
struct ReserveRequest {
  ReserveAction action;
  ReservationType type;  // one of those above, where the action uses it
  uint64_t key;
  uint64_t action_key;
};

// Persistent reservations of SPC-4 5.13, and the older RESERVE and RELEASE of SPC-2 5.5.1, which
// exclude each other. Nothing outlives the process (no APTPL). Thread-safe; is_reserved() takes no
// lock. Whoever loses something to another initiator gets a unit attention.
//
// PREEMPT AND ABORT preempts; what runs already runs to its end.
class Reservations {
 public:
  static constexpr size_t max_registrants = 64;

  explicit Reservations(UnitAttentions& attentions) : attentions_(attentions) {}

  // Whether conflicts() is worth asking.
  bool is_reserved() const { return is_reserved_.load(std::memory_order_acquire); }
  bool conflicts(uint64_t initiator, Conduct conduct) const;

  // GOOD, RESERVATION CONFLICT or CHECK CONDITION.
  Outcome perform(uint64_t initiator, const ReserveRequest& request);

  // RESERVE and RELEASE. For a registrant they do nothing, with GOOD (SPC-3 5.6.3).
  Outcome reserve_unit(uint64_t initiator);
  Outcome release_unit(uint64_t initiator);

  // PERSISTENT RESERVE IN: appends the whole parameter data.
  void read_keys(ParameterData& data) const;
  void read_reservation(ParameterData& data) const;
  void read_full_status(ParameterData& data) const;

  // A reset gives up what RESERVE took; persistent reservations stay.
  void reset();
  // All is given up, and nobody is told (SPC-4 5.13.5: without APTPL).
  void power_on();

 private:
  struct Registrant {
    uint64_t initiator;
    uint64_t key;
  };
  struct Reservation {
    ReservationType type;
    uint64_t holder;  // of no meaning where all registrants hold it
  };

  Registrant* find(uint64_t initiator);
  const Registrant* find(uint64_t initiator) const;
  bool is_held_by(uint64_t initiator) const;
  Outcome set_key(uint64_t initiator, const ReserveRequest& request);
  Outcome take_reservation(uint64_t initiator, const ReserveRequest& request);
  Outcome release(uint64_t initiator, const ReserveRequest& request);
  Outcome clear(uint64_t initiator);
  Outcome preempt(uint64_t initiator, const ReserveRequest& request);
  bool is_preempting_the_reservation(uint64_t action_key) const;
  bool remove_registrants(uint64_t but, uint64_t key, bool all);
  void unregister(uint64_t initiator);
  void end_reservation(uint64_t initiator);
  void update();

  UnitAttentions& attentions_;
  mutable std::mutex mutex_;  // of all below
  uint32_t generation_ = 0;
  std::vector<Registrant> registrants_;
  std::optional<Reservation> reservation_;
  std::optional<uint64_t> unit_holder_;  // by RESERVE
  std::atomic<bool> is_reserved_ = false;
};

bool is_registrants(ReservationType type);      // registrants may use the unit as well
bool is_all_registrants(ReservationType type);  // and all of them hold the reservation
bool is_write_exclusive(ReservationType type);  // everybody may read

}  // namespace vhdkit::scsi
