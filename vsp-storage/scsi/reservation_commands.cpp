#include "vsp-storage/scsi/reservation_commands.h"

#include <bit>

#include "vsp-storage/scsi/cdb.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr size_t parameter_list_bytes = 24;
// Bits of byte 20 of the parameter list.
constexpr uint8_t specify_initiator_ports = 0x08, all_target_ports = 0x04,
                  through_power_loss = 0x01;

using Append = void (Reservations::*)(ParameterData&) const;

Outcome answer_with(const Reservations& reservations, Append append, const Command& command) {
  ParameterData data;
  (reservations.*append)(data);
  return answer(command, data.bytes(), Cdb(command).u16(7));
}

bool is_type(uint8_t type) { return type == 1 || type == 3 || (type >= 5 && type <= 8); }

bool uses_type(ReserveAction action) {
  return action == ReserveAction::reserve || action == ReserveAction::release ||
         action == ReserveAction::preempt || action == ReserveAction::preempt_and_abort;
}

}  // namespace

Outcome read_keys(const Reservations& reservations, const Command& command) {
  return answer_with(reservations, &Reservations::read_keys, command);
}

Outcome read_reservation(const Reservations& reservations, const Command& command) {
  return answer_with(reservations, &Reservations::read_reservation, command);
}

Outcome read_full_status(const Reservations& reservations, const Command& command) {
  return answer_with(reservations, &Reservations::read_full_status, command);
}

// SPC-4 table 210.
Outcome report_reservation_capabilities(const Command& command) {
  constexpr uint8_t compatible_handling = 0x10;            // CRH
  constexpr uint8_t type_mask_valid = 0x80;                // TMV
  constexpr uint8_t harmless_commands_are_allowed = 0x30;  // ALLOW COMMANDS 011b
  ParameterData data;
  data.put16(8);
  data.put8(compatible_handling);
  data.put8(type_mask_valid | harmless_commands_are_allowed);
  data.put16(0xea01);  // all six types
  data.put16(0);
  return answer(command, data.bytes(), Cdb(command).u16(7));
}

Outcome persistent_reserve_out(Reservations& reservations, const Command& command) {
  const Cdb cdb(command);
  if (cdb.u32(5) != parameter_list_bytes) return check_condition(sense::parameter_list_length);
  const auto list = take_parameters(command, parameter_list_bytes);
  if (!list) return list.error();
  const auto action = ReserveAction(cdb.service_action());
  const uint8_t scope = cdb.u8(2) >> 4;
  const uint8_t type = cdb.u8(2) & 0x0f;
  if (uses_type(action)) {
    if (scope != 0) return invalid_in_cdb({.byte = 2, .bit = 7});
    if (!is_type(type)) return invalid_in_cdb({.byte = 2, .bit = 3});
  }
  // SPC-4 6.16.3: only for registering, and REPORT CAPABILITIES says that none is supported.
  const auto flags = uint8_t((*list)[20]);
  const bool registers =
      action == ReserveAction::register_key || action == ReserveAction::register_and_ignore;
  if (registers)
    for (const uint8_t flag : {specify_initiator_ports, all_target_ports, through_power_loss})
      if ((flags & flag) != 0)
        return invalid_in_parameters({.byte = 20, .bit = std::countr_zero(flag)});
  const ReserveRequest request{.action = action,
                               .type = ReservationType(type),
                               .key = field_of(*list, 0, 8),
                               .action_key = field_of(*list, 8, 8)};
  Outcome outcome = reservations.perform(command.initiator, request);
  if (outcome.status == Status::good) outcome.transferred_bytes = parameter_list_bytes;
  return outcome;
}

Outcome reserve(Reservations& reservations, const Command& command) {
  const uint8_t flags = Cdb(command).u8(1) & 0x1f;
  if (flags != 0) return invalid_in_cdb({.byte = 1, .bit = 4});
  return reservations.reserve_unit(command.initiator);
}

Outcome release(Reservations& reservations, const Command& command) {
  const uint8_t flags = Cdb(command).u8(1) & 0x1f;
  if (flags != 0) return invalid_in_cdb({.byte = 1, .bit = 4});
  return reservations.release_unit(command.initiator);
}

}  // namespace vhdkit::scsi
