// Sense data: why a command ended with CHECK CONDITION, in fixed format (SPC-4 4.5).
#pragma once

#include <expected>
#include <optional>

#include "support/result.h"
#include "vsp-storage/scsi/command.h"

namespace vhdkit::scsi {

// SPC-4 4.5.6.
enum class SenseKey : uint8_t {
  no_sense = 0x0,
  not_ready = 0x2,
  medium_error = 0x3,
  hardware_error = 0x4,
  illegal_request = 0x5,
  unit_attention = 0x6,
  data_protect = 0x7,
  aborted_command = 0xb,
  miscompare = 0xe,
};

struct Sense {
  SenseKey key;
  uint8_t asc;   // additional sense code
  uint8_t ascq;  // and its qualifier
  friend bool operator==(const Sense&, const Sense&) = default;
};

namespace sense {

inline constexpr Sense none{SenseKey::no_sense, 0x00, 0x00};
inline constexpr Sense start_unit_required{SenseKey::not_ready, 0x04, 0x02};
inline constexpr Sense intervention_required{SenseKey::not_ready, 0x04, 0x03};
inline constexpr Sense no_medium{SenseKey::not_ready, 0x3a, 0x00};
inline constexpr Sense no_medium_tray_closed{SenseKey::not_ready, 0x3a, 0x01};
inline constexpr Sense no_medium_tray_open{SenseKey::not_ready, 0x3a, 0x02};
inline constexpr Sense write_error{SenseKey::medium_error, 0x0c, 0x00};
inline constexpr Sense read_error{SenseKey::medium_error, 0x11, 0x00};
inline constexpr Sense internal_failure{SenseKey::hardware_error, 0x44, 0x00};
inline constexpr Sense parameter_list_length{SenseKey::illegal_request, 0x1a, 0x00};
inline constexpr Sense invalid_opcode{SenseKey::illegal_request, 0x20, 0x00};
inline constexpr Sense out_of_range{SenseKey::illegal_request, 0x21, 0x00};
inline constexpr Sense invalid_field_in_cdb{SenseKey::illegal_request, 0x24, 0x00};
inline constexpr Sense unit_not_supported{SenseKey::illegal_request, 0x25, 0x00};
inline constexpr Sense invalid_field_in_parameters{SenseKey::illegal_request, 0x26, 0x00};
inline constexpr Sense invalid_release{SenseKey::illegal_request, 0x26, 0x04};
inline constexpr Sense saving_not_supported{SenseKey::illegal_request, 0x39, 0x00};
inline constexpr Sense removal_prevented{SenseKey::illegal_request, 0x53, 0x02};
inline constexpr Sense no_registration_resources{SenseKey::illegal_request, 0x55, 0x04};
inline constexpr Sense write_protected{SenseKey::data_protect, 0x27, 0x00};
inline constexpr Sense space_allocation_failed{SenseKey::data_protect, 0x27, 0x07};
inline constexpr Sense aborted{SenseKey::aborted_command, 0x00, 0x00};
inline constexpr Sense data_phase_error{SenseKey::aborted_command, 0x4b, 0x00};
inline constexpr Sense miscompare{SenseKey::miscompare, 0x1d, 0x00};

}  // namespace sense

// What REQUEST SENSE gives as data, and CHECK CONDITION brings along.
std::array<std::byte, sense_bytes> fixed_format(const Sense& sense);

Outcome check_condition(const Sense& sense);
Outcome busy();
Outcome reservation_conflict();

// The field at fault, by the byte where it begins and, for less than a byte, its most significant
// bit (SPC-4 4.5.2.4.2).
struct Field {
  uint16_t byte;
  int bit = -1;  // none
};
Outcome invalid_in_cdb(Field field);
Outcome invalid_in_parameters(Field field);
// The byte of the Data-Out Buffer that is the first not to be what the medium holds.
Outcome miscompare_at(uint64_t data_offset);

enum class Access : uint8_t { read, write };
// The one place where an error of the disk becomes one of SCSI.
Outcome failed(const Error& error, Access access);

// A value, or how the command ends without one.
template <class T>
using Checked = std::expected<T, Outcome>;

}  // namespace vhdkit::scsi
