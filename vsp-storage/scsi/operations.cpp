#include "vsp-storage/scsi/operations.h"

#include <algorithm>

#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr uint8_t normal_aca = 0x04;  // of CONTROL, SAM-5 5.2

bool is_wrong_way(const Operation& operation, const Command& command) {
  return command.direction != Direction::none && operation.direction != Direction::none &&
         command.direction != operation.direction && total_bytes(command.data) != 0;
}

// SPC-4 table 249. No timeouts are promised.
void put_timeouts(ParameterData& data) {
  data.put16(10);
  data.put_zeroes(10);
}

Outcome report_all(const std::vector<const Operation*>& operations, bool with_timeouts,
                   const Command& command) {
  constexpr uint8_t has_timeouts = 0x02, has_service_action = 0x01;
  ParameterData data;
  data.put32(0);
  for (const Operation* const operation : operations) {
    const bool has_action = operation->service_action >= 0;
    data.put8(operation->opcode);
    data.put8(0);
    data.put16(has_action ? uint64_t(operation->service_action) : 0);
    data.put8(0);
    data.put8((with_timeouts ? has_timeouts : 0) | (has_action ? has_service_action : 0));
    data.put16(operation->cdb_bytes);
    if (with_timeouts) put_timeouts(data);
  }
  data.set32(0, data.size() - 4);
  return answer(command, data.bytes(), Cdb(command).u32(6));
}

Outcome report_one(const Operation* operation, bool with_timeouts, const Command& command) {
  constexpr uint8_t not_supported = 0x01, supported = 0x03, has_timeouts = 0x80;
  ParameterData data;
  data.put8(0);
  if (operation == nullptr) {
    data.put8(not_supported);
    data.put16(0);
    return answer(command, data.bytes(), Cdb(command).u32(6));
  }
  data.put8(with_timeouts ? has_timeouts | supported : supported);
  data.put16(operation->cdb_bytes);
  for (size_t i = 0; i < operation->cdb_bytes; ++i) data.put8(operation->usage[i]);
  if (with_timeouts) put_timeouts(data);
  return answer(command, data.bytes(), Cdb(command).u32(6));
}

}  // namespace

std::optional<Outcome> objection(const Operation& operation, const Command& command,
                                 UnitAttentions& attentions, const Reservations* reservations) {
  if (!operation.ignores_attention && attentions.is_pending(command.initiator))
    if (const auto attention = attentions.take(command.initiator))
      return check_condition(sense_of(*attention));
  if (reservations != nullptr && reservations->is_reserved() &&
      reservations->conflicts(command.initiator, operation.conduct))
    return reservation_conflict();
  if (command.cdb.size() < operation.cdb_bytes)
    return invalid_in_cdb({.byte = uint16_t(command.cdb.size())});
  const uint8_t control = Cdb(command).u8(operation.cdb_bytes - 1u);
  if ((control & normal_aca) != 0)
    return invalid_in_cdb({.byte = uint16_t(operation.cdb_bytes - 1), .bit = 2});
  if (is_wrong_way(operation, command)) return check_condition(sense::data_phase_error);
  return std::nullopt;
}

Outcome report_supported_operations(const std::vector<const Operation*>& operations,
                                    const Command& command) {
  const Cdb cdb(command);
  const bool with_timeouts = cdb.bit(2, 7);
  const unsigned option = cdb.u8(2) & 7;
  if (option == 0) return report_all(operations, with_timeouts, command);
  if (option > 3) return invalid_in_cdb({.byte = 2, .bit = 2});
  const uint8_t opcode = cdb.u8(3);
  const int service_action = cdb.u16(4);
  const auto with_opcode = std::ranges::find(operations, opcode, &Operation::opcode);
  if (with_opcode == operations.end()) return report_one(nullptr, with_timeouts, command);
  // Option 1 is for operations without service actions, 2 for those with, 3 for both.
  const bool has_actions = (*with_opcode)->service_action >= 0;
  if (option == 1 && has_actions) return invalid_in_cdb({.byte = 2, .bit = 2});
  if (option == 2 && !has_actions) return invalid_in_cdb({.byte = 2, .bit = 2});
  if (!has_actions) {
    const bool is_found = option == 1 || service_action == 0;
    return report_one(is_found ? *with_opcode : nullptr, with_timeouts, command);
  }
  const auto is_asked = [opcode, service_action](const Operation* operation) {
    return operation->opcode == opcode && operation->service_action == service_action;
  };
  const auto exact = std::ranges::find_if(operations, is_asked);
  return report_one(exact == operations.end() ? nullptr : *exact, with_timeouts, command);
}

Outcome report_task_management(const Command& command) {
  constexpr uint8_t logical_unit_reset = 0x08;
  const bool is_extended = Cdb(command).bit(2, 7);
  ParameterData data;
  data.put8(logical_unit_reset);
  data.put16(0);
  data.put8(is_extended ? 12 : 0);
  if (is_extended) data.put_zeroes(12);  // timeouts: not promised
  return answer(command, data.bytes(), Cdb(command).u32(6));
}

}  // namespace vhdkit::scsi
