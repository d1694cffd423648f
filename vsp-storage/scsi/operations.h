// The table of a unit's operations: what is done, by which name it is reported, and by whom.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "disk/disk.h"
#include "vsp-storage/scsi/cdb.h"
#include "vsp-storage/scsi/reservations.h"

namespace vhdkit::scsi {

// How a command passes the unit's gate: see gate.h.
enum class Entrance : uint8_t {
  open,    // it neither reads nor writes a block
  shared,  // others run at once
  alone,   // nothing else runs
  itself,  // the handler does it
};

struct Operation {
  uint8_t opcode;
  int service_action;  // -1: it has none
  const char* name;
  // The CDB with a 1 for each bit that is looked at, the service action in its place (SPC-4 6.35.3,
  // CDB USAGE DATA).
  std::array<uint8_t, 16> usage;
  uint8_t cdb_bytes;
  Direction direction;
  Conduct conduct;
  Entrance entrance = Entrance::open;
  bool needs_medium = false;
  // Done with a unit attention pending, which stays (SPC-4 6.6, 6.33, 6.39).
  bool ignores_attention = false;
  bool needs_provisioning = false;  // of units that can unmap blocks
};

// One of answer and run is set.
template <class State>
struct Entry {
  Operation operation;
  Outcome (*answer)(State& unit, const disk::Geometry& geometry, const Command& command) = nullptr;
  async::Task<Outcome> (*run)(State& unit, disk::Disk& disk, const Command& command) = nullptr;
};

// REQUIRES: entries of one opcode stand together.
template <class State, size_t count>
class OperationTable {
 public:
  constexpr explicit OperationTable(const std::array<Entry<State>, count>& entries)
      : entries_(entries) {
    static_assert(count < nothing);
    first_.fill(nothing);
    for (size_t i = count; i-- > 0;) first_[entries_[i].operation.opcode] = uint8_t(i);
  }

  // Errors: INVALID COMMAND OPERATION CODE; INVALID FIELD IN CDB for an unknown service action.
  Checked<const Entry<State>*> find(const Cdb& cdb) const {
    size_t index = first_[cdb.opcode()];
    if (index == nothing) return std::unexpected(check_condition(sense::invalid_opcode));
    if (entries_[index].operation.service_action < 0) return &entries_[index];
    for (; index < count && entries_[index].operation.opcode == cdb.opcode(); ++index)
      if (entries_[index].operation.service_action == cdb.service_action()) return &entries_[index];
    return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 4}));
  }

  std::vector<const Operation*> operations(bool with_provisioning) const {
    std::vector<const Operation*> found;
    for (const Entry<State>& entry : entries_)
      if (with_provisioning || !entry.operation.needs_provisioning)
        found.push_back(&entry.operation);
    return found;
  }

 private:
  static constexpr uint8_t nothing = 0xff;
  std::array<Entry<State>, count> entries_;
  std::array<uint8_t, 256> first_{};  // by opcode
};

// What stands against a command whatever it does: its length, a unit attention (told herewith), a
// reservation, a bit that asks for ACA, data in the wrong direction.
std::optional<Outcome> objection(const Operation& operation, const Command& command,
                                 UnitAttentions& attentions, const Reservations* reservations);

// REPORT SUPPORTED OPERATION CODES, SPC-4 6.35, with all three reporting options and RCTD.
Outcome report_supported_operations(const std::vector<const Operation*>& operations,
                                    const Command& command);
// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, SPC-4 6.36: LOGICAL UNIT RESET.
Outcome report_task_management(const Command& command);

}  // namespace vhdkit::scsi
