#include "vsp-storage/scsi/sense.h"

namespace vhdkit::scsi {
namespace {

// Bytes of fixed format sense data, SPC-4 table 48.
constexpr size_t key_byte = 2, information_byte = 3, length_byte = 7, asc_byte = 12, ascq_byte = 13,
                 specific_byte = 15;
constexpr uint8_t current_error = 0x70, information_valid = 0x80;
constexpr uint8_t specific_valid = 0x80, in_cdb = 0x40, bit_pointer_valid = 0x08;

struct Mapping {
  Errc code;
  Sense reading;
  Sense writing;
};

// busy is no sense: the guest shall come again.
constexpr Mapping mappings[] = {
    {Errc::io, sense::read_error, sense::write_error},
    {Errc::corrupt, sense::read_error, sense::write_error},
    {Errc::wrong_parent, sense::read_error, sense::write_error},
    {Errc::unsupported, sense::internal_failure, sense::internal_failure},
    {Errc::invalid_argument, sense::internal_failure, sense::internal_failure},
    {Errc::exists, sense::internal_failure, sense::internal_failure},
    {Errc::out_of_range, sense::out_of_range, sense::out_of_range},
    {Errc::not_found, sense::intervention_required, sense::intervention_required},
    {Errc::read_only, sense::write_protected, sense::write_protected},
    {Errc::no_space, sense::space_allocation_failed, sense::space_allocation_failed},
    {Errc::permission, sense::read_error, sense::write_protected},
    {Errc::interrupted, sense::aborted, sense::aborted},
};

Outcome invalid_field(const Sense& sense, Field field, uint8_t where) {
  Outcome outcome = check_condition(sense);
  uint8_t flags = specific_valid | where;
  if (field.bit >= 0) flags = uint8_t(flags | bit_pointer_valid | (field.bit & 7));
  outcome.sense[specific_byte] = std::byte(flags);
  outcome.sense[specific_byte + 1] = std::byte(field.byte >> 8);
  outcome.sense[specific_byte + 2] = std::byte(field.byte & 0xff);
  return outcome;
}

}  // namespace

std::array<std::byte, sense_bytes> fixed_format(const Sense& sense) {
  std::array<std::byte, sense_bytes> bytes{};
  bytes[0] = std::byte{current_error};
  bytes[key_byte] = std::byte(sense.key);
  bytes[length_byte] = std::byte{sense_bytes - length_byte - 1};
  bytes[asc_byte] = std::byte{sense.asc};
  bytes[ascq_byte] = std::byte{sense.ascq};
  return bytes;
}

Outcome check_condition(const Sense& sense) {
  return {
      .status = Status::check_condition, .sense_length = sense_bytes, .sense = fixed_format(sense)};
}

Outcome busy() { return {.status = Status::busy}; }

Outcome reservation_conflict() { return {.status = Status::reservation_conflict}; }

Outcome invalid_in_cdb(Field field) {
  return invalid_field(sense::invalid_field_in_cdb, field, in_cdb);
}

Outcome invalid_in_parameters(Field field) {
  return invalid_field(sense::invalid_field_in_parameters, field, 0);
}

Outcome miscompare_at(uint64_t data_offset) {
  Outcome outcome = check_condition(sense::miscompare);
  // INFORMATION has four bytes; what does not fit is not valid (SPC-4 4.5.3).
  if (data_offset > UINT32_MAX) return outcome;
  outcome.sense[0] |= std::byte{information_valid};
  for (size_t i = 0; i < 4; ++i)
    outcome.sense[information_byte + i] = std::byte(data_offset >> (24 - 8 * i) & 0xff);
  return outcome;
}

Outcome failed(const Error& error, Access access) {
  for (const Mapping& mapping : mappings)
    if (mapping.code == error.code)
      return check_condition(access == Access::read ? mapping.reading : mapping.writing);
  return busy();
}

}  // namespace vhdkit::scsi
