#include "vsp-storage/scsi/target.h"

#include "vsp-storage/scsi/cdb.h"
#include "vsp-storage/scsi/opcodes.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

// SPC-4 6.6.2: PERIPHERAL QUALIFIER 011b and type 1Fh: no unit, and there cannot be one.
Outcome inquire_absent(const Command& command) {
  constexpr uint8_t nothing = 0x7f, spc4 = 0x06, response_format = 0x02;
  const Cdb cdb(command);
  if (cdb.bit(1, 0)) return invalid_in_cdb({.byte = 1, .bit = 0});
  if (cdb.u8(2) != 0) return invalid_in_cdb({.byte = 2});
  ParameterData data;
  data.put8(nothing);
  data.put8(0);
  data.put8(spc4);
  data.put8(response_format);
  data.put8(36 - 5);
  data.put_zeroes(3);
  data.put_text("", 8 + 16 + 4);
  return answer(command, data.bytes(), cdb.u16(3));
}

}  // namespace

Outcome Target::execute_absent(const Address& address, const Command& command) const {
  const Cdb cdb(command);
  switch (cdb.opcode()) {
    case opcode::inquiry:
      return inquire_absent(command);
    case opcode::report_luns:
      if (address.path == 0 && address.target == 0) return luns_->report(command);
      return report_luns({}, command);
    case opcode::request_sense:
      return answer(command, fixed_format(sense::unit_not_supported), cdb.u8(4));
    default:
      return check_condition(sense::unit_not_supported);
  }
}

}  // namespace vhdkit::scsi
