#include "vsp-storage/scsi/reservations.h"

#include <algorithm>

#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

// SPC-4 table 164: the identifier of a transport of no kind that T10 knows.
constexpr uint8_t no_specific_protocol = 0x0f;
constexpr size_t transport_id_bytes = 24;
constexpr uint8_t all_target_ports = 0x02, is_holder = 0x01;

}  // namespace

bool is_registrants(ReservationType type) {
  return type >= ReservationType::write_exclusive_registrants_only;
}

bool is_all_registrants(ReservationType type) {
  return type >= ReservationType::write_exclusive_all_registrants;
}

bool is_write_exclusive(ReservationType type) {
  return type == ReservationType::write_exclusive ||
         type == ReservationType::write_exclusive_registrants_only ||
         type == ReservationType::write_exclusive_all_registrants;
}

Reservations::Registrant* Reservations::find(uint64_t initiator) {
  const auto found = std::ranges::find(registrants_, initiator, &Registrant::initiator);
  return found == registrants_.end() ? nullptr : &*found;
}

const Reservations::Registrant* Reservations::find(uint64_t initiator) const {
  const auto found = std::ranges::find(registrants_, initiator, &Registrant::initiator);
  return found == registrants_.end() ? nullptr : &*found;
}

bool Reservations::is_held_by(uint64_t initiator) const {
  if (!reservation_) return false;
  if (is_all_registrants(reservation_->type)) return find(initiator) != nullptr;
  return reservation_->holder == initiator;
}

bool Reservations::conflicts(uint64_t initiator, Conduct conduct) const {
  const std::scoped_lock lock(mutex_);
  if (conduct == Conduct::always) return false;
  if (unit_holder_) return *unit_holder_ != initiator;
  if (conduct == Conduct::harmless) return false;
  if (!reservation_ || is_held_by(initiator)) return false;
  if (is_registrants(reservation_->type) && find(initiator) != nullptr) return false;
  return conduct == Conduct::writes || !is_write_exclusive(reservation_->type);
}

Outcome Reservations::perform(uint64_t initiator, const ReserveRequest& request) {
  const std::scoped_lock lock(mutex_);
  if (unit_holder_) return reservation_conflict();
  const bool is_registering = request.action == ReserveAction::register_key ||
                              request.action == ReserveAction::register_and_ignore;
  const Registrant* const registrant = find(initiator);
  // SPC-4 5.13.5: everything else is for registrants that know their key.
  if (!is_registering && (registrant == nullptr || registrant->key != request.key))
    return reservation_conflict();
  Outcome outcome;
  switch (request.action) {
    case ReserveAction::register_key:
    case ReserveAction::register_and_ignore:
      outcome = set_key(initiator, request);
      break;
    case ReserveAction::reserve:
      outcome = take_reservation(initiator, request);
      break;
    case ReserveAction::release:
      outcome = release(initiator, request);
      break;
    case ReserveAction::clear:
      outcome = clear(initiator);
      break;
    case ReserveAction::preempt:
    case ReserveAction::preempt_and_abort:
      outcome = preempt(initiator, request);
      break;
  }
  update();
  return outcome;
}

// SPC-4 5.13.7 and table 224.
Outcome Reservations::set_key(uint64_t initiator, const ReserveRequest& request) {
  Registrant* const registrant = find(initiator);
  if (request.action == ReserveAction::register_key &&
      request.key != (registrant == nullptr ? 0 : registrant->key))
    return reservation_conflict();
  if (request.action_key == 0) {
    if (registrant == nullptr) return {};
    unregister(initiator);
  } else if (registrant != nullptr) {
    registrant->key = request.action_key;
  } else if (registrants_.size() < max_registrants) {
    registrants_.push_back({initiator, request.action_key});
  } else {
    return check_condition(sense::no_registration_resources);
  }
  ++generation_;
  return {};
}

// SPC-4 5.13.11.2.3: a holder's reservation goes with it; where all hold it, with the last one.
void Reservations::unregister(uint64_t initiator) {
  const bool is_holder_now = is_held_by(initiator);
  std::erase_if(registrants_,
                [initiator](const Registrant& each) { return each.initiator == initiator; });
  if (is_holder_now && (!is_all_registrants(reservation_->type) || registrants_.empty()))
    end_reservation(initiator);
}

// Registrants that could use the unit are told that it is everybody's now.
void Reservations::end_reservation(uint64_t initiator) {
  const ReservationType type = reservation_->type;
  reservation_.reset();
  if (!is_registrants(type)) return;
  for (const Registrant& each : registrants_)
    if (each.initiator != initiator)
      attentions_.establish_for(Attention::reservations_released, each.initiator);
}

// SPC-4 5.13.9.
Outcome Reservations::take_reservation(uint64_t initiator, const ReserveRequest& request) {
  if (!reservation_) {
    reservation_ = {request.type, initiator};
    return {};
  }
  if (is_held_by(initiator) && reservation_->type == request.type) return {};
  return reservation_conflict();
}

// SPC-4 5.13.11.2.2.
Outcome Reservations::release(uint64_t initiator, const ReserveRequest& request) {
  if (!is_held_by(initiator)) return {};
  if (reservation_->type != request.type) return check_condition(sense::invalid_release);
  end_reservation(initiator);
  return {};
}

// SPC-4 5.13.11.2.7.
Outcome Reservations::clear(uint64_t initiator) {
  for (const Registrant& each : registrants_)
    if (each.initiator != initiator)
      attentions_.establish_for(Attention::reservations_preempted, each.initiator);
  registrants_.clear();
  reservation_.reset();
  ++generation_;
  return {};
}

bool Reservations::is_preempting_the_reservation(uint64_t action_key) const {
  if (!reservation_) return false;
  if (is_all_registrants(reservation_->type)) return action_key == 0;
  const Registrant* const holder = find(reservation_->holder);
  return holder != nullptr && holder->key == action_key;
}

// Whether there were any.
bool Reservations::remove_registrants(uint64_t but, uint64_t key, bool all) {
  bool has_found = false;
  std::erase_if(registrants_, [this, but, key, all, &has_found](const Registrant& each) {
    if (!all && each.key != key) return false;
    has_found = true;
    if (each.initiator == but) return false;
    attentions_.establish_for(Attention::registrations_preempted, each.initiator);
    return true;
  });
  return has_found;
}

// SPC-4 5.13.11.2.4, 5.13.11.2.5.
Outcome Reservations::preempt(uint64_t initiator, const ReserveRequest& request) {
  const bool takes_reservation = is_preempting_the_reservation(request.action_key);
  if (request.action_key == 0 && !takes_reservation) return invalid_in_parameters({.byte = 8});
  const bool all = takes_reservation && is_all_registrants(reservation_->type);
  if (!remove_registrants(initiator, request.action_key, all)) return reservation_conflict();
  if (takes_reservation) {
    // SPC-4 5.13.11.2.4: whom the change of type concerns.
    if (reservation_->type != request.type) end_reservation(initiator);
    reservation_ = {request.type, initiator};
  }
  ++generation_;
  return {};
}

Outcome Reservations::reserve_unit(uint64_t initiator) {
  const std::scoped_lock lock(mutex_);
  if (!registrants_.empty()) return find(initiator) != nullptr ? Outcome() : reservation_conflict();
  if (unit_holder_ && *unit_holder_ != initiator) return reservation_conflict();
  unit_holder_ = initiator;
  update();
  return {};
}

Outcome Reservations::release_unit(uint64_t initiator) {
  const std::scoped_lock lock(mutex_);
  if (!registrants_.empty()) return find(initiator) != nullptr ? Outcome() : reservation_conflict();
  // SPC-2 7.16: who does not hold it releases nothing, and that is no error.
  if (unit_holder_ == initiator) unit_holder_.reset();
  update();
  return {};
}

void Reservations::reset() {
  const std::scoped_lock lock(mutex_);
  unit_holder_.reset();
  update();
}

void Reservations::power_on() {
  const std::scoped_lock lock(mutex_);
  unit_holder_.reset();
  reservation_.reset();
  registrants_.clear();
  generation_ = 0;
  update();
}

void Reservations::update() { is_reserved_ = reservation_ || unit_holder_; }

// SPC-4 table 206.
void Reservations::read_keys(ParameterData& data) const {
  const std::scoped_lock lock(mutex_);
  data.put32(generation_);
  data.put32(registrants_.size() * 8);
  for (const Registrant& each : registrants_) data.put64(each.key);
}

// SPC-4 tables 208 and 209.
void Reservations::read_reservation(ParameterData& data) const {
  const std::scoped_lock lock(mutex_);
  data.put32(generation_);
  data.put32(reservation_ ? 16 : 0);
  if (!reservation_) return;
  const Registrant* const holder = find(reservation_->holder);
  data.put64(is_all_registrants(reservation_->type) || holder == nullptr ? 0 : holder->key);
  data.put32(0);  // obsolete
  data.put8(0);
  data.put8(uint8_t(reservation_->type));  // scope 0: the logical unit
  data.put16(0);                           // obsolete
}

// SPC-4 table 214.
void Reservations::read_full_status(ParameterData& data) const {
  const std::scoped_lock lock(mutex_);
  data.put32(generation_);
  data.put32(registrants_.size() * (24 + transport_id_bytes));
  for (const Registrant& each : registrants_) {
    const bool holds = is_held_by(each.initiator);
    data.put64(each.key);
    data.put32(0);
    data.put8(holds ? is_holder | all_target_ports : all_target_ports);
    data.put8(holds ? uint8_t(reservation_->type) : 0);
    data.put32(0);
    data.put16(0);  // RELATIVE TARGET PORT IDENTIFIER: none, it is all ports
    data.put32(transport_id_bytes);
    data.put8(no_specific_protocol);
    data.put_zeroes(transport_id_bytes - 1 - 8);
    data.put64(each.initiator);
  }
}

}  // namespace vhdkit::scsi
