#include "vsp-storage/scsi/mode_pages.h"

#include <algorithm>
#include <bit>

#include "vsp-storage/scsi/cdb.h"
#include "vsp-storage/scsi/opcodes.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr uint8_t all_pages = 0x3f, all_subpages = 0xff;
constexpr size_t page_header_bytes = 2;
constexpr size_t short_descriptor_bytes = 8, long_descriptor_bytes = 16;

enum PageControl : uint8_t { current = 0, changeable = 1, initial = 2, saved = 3 };

const ModePage::Bytes& values_of(const ModePage& page, uint8_t control) {
  if (control == changeable) return page.changeable;
  return control == initial ? page.initial : page.current;
}

void put_page(ParameterData& data, const ModePage& page, uint8_t control) {
  data.put8(page.code);
  data.put8(page.length);
  const ModePage::Bytes& values = values_of(page, control);
  data.put_bytes(std::as_bytes(std::span(values)).first(page.length));
}

// SBC-3 6.5.2.2 and 6.5.2.3.
void put_block_descriptor(ParameterData& data, const ModeHeader& header, bool is_long) {
  if (is_long) {
    data.put64(header.block_count);
    data.put32(0);
    data.put32(header.block_bytes);
    return;
  }
  data.put32(std::min<uint64_t>(header.block_count, UINT32_MAX));
  data.put32(header.block_bytes);  // three bytes; the one before is reserved
}

// SPC-4 7.5.5. The length stands for what follows it.
void put_header(ParameterData& data, const ModeHeader& header, bool is_six, bool is_long,
                size_t descriptor_bytes) {
  if (is_six) {
    data.put8(0);
    data.put8(header.medium_type);
    data.put8(header.device_specific);
    data.put8(descriptor_bytes);
    return;
  }
  data.put16(0);
  data.put8(header.medium_type);
  data.put8(header.device_specific);
  data.put8(is_long ? 1 : 0);
  data.put8(0);
  data.put16(descriptor_bytes);
}

// A parameter list of MODE SELECT while it is read.
struct List {
  std::span<const std::byte> bytes;
  size_t at = 0;
  uint8_t u8(size_t offset) const { return uint8_t(bytes[at + offset]); }
  size_t left() const { return bytes.size() - at; }
};

std::optional<Outcome> check_block_descriptor(List& list, size_t length, bool is_long,
                                              const ModeHeader& header) {
  if (length == 0) return std::nullopt;
  const size_t expected = is_long ? long_descriptor_bytes : short_descriptor_bytes;
  if (length != expected || !header.has_block_descriptor)
    return invalid_in_parameters({.byte = uint16_t(list.at - 1)});
  if (list.left() < length) return check_condition(sense::parameter_list_length);
  const uint64_t count = field_of(list.bytes, list.at, is_long ? 8 : 4);
  const uint64_t block_bytes =
      is_long ? field_of(list.bytes, list.at + 12, 4) : field_of(list.bytes, list.at + 5, 3);
  // SBC-3 6.5.2: 0 and the largest value leave the capacity as it is.
  const uint64_t largest = is_long ? UINT64_MAX : UINT32_MAX;
  if (count != 0 && count != largest && count != header.block_count)
    return invalid_in_parameters({.byte = uint16_t(list.at)});
  if (block_bytes != header.block_bytes)
    return invalid_in_parameters({.byte = uint16_t(list.at + (is_long ? 12 : 5))});
  list.at += length;
  return std::nullopt;
}

// The header and what it says of block descriptors.
std::optional<Outcome> check_header(List& list, bool is_six, const ModeHeader& header) {
  const size_t header_bytes = is_six ? 4 : 8;
  if (list.left() < header_bytes) return check_condition(sense::parameter_list_length);
  const bool is_long = !is_six && (list.u8(4) & 1) != 0;
  const size_t length = is_six ? list.u8(3) : field_of(list.bytes, 6, 2);
  list.at = header_bytes;
  return check_block_descriptor(list, length, is_long, header);
}

Checked<ModePage> next_page(List& list, const std::vector<ModePage>& pages) {
  if (list.left() < page_header_bytes)
    return std::unexpected(check_condition(sense::parameter_list_length));
  constexpr uint8_t subpage_format = 0x40, saveable = 0x80;
  const auto found = std::ranges::find(pages, list.u8(0) & ~unsigned{saveable}, &ModePage::code);
  if (found == pages.end() || (list.u8(0) & subpage_format) != 0)
    return std::unexpected(invalid_in_parameters({.byte = uint16_t(list.at), .bit = 5}));
  ModePage page = *found;
  if (list.u8(1) != page.length)
    return std::unexpected(invalid_in_parameters({.byte = uint16_t(list.at + 1)}));
  list.at += page_header_bytes;
  if (list.left() < page.length)
    return std::unexpected(check_condition(sense::parameter_list_length));
  for (size_t i = 0; i < page.length; ++i) {
    const uint8_t value = list.u8(i);
    const int forbidden = (value ^ page.current[i]) & ~page.changeable[i];
    if (forbidden != 0)
      return std::unexpected(invalid_in_parameters(
          {.byte = uint16_t(list.at + i), .bit = int(std::bit_width(unsigned(forbidden))) - 1}));
    page.current[i] = value;
  }
  list.at += page.length;
  return page;
}

}  // namespace

Outcome mode_sense(const std::vector<ModePage>& pages, const ModeHeader& header,
                   const Command& command) {
  const Cdb cdb(command);
  const bool is_six = cdb.opcode() == opcode::mode_sense6;
  const uint8_t control = cdb.u8(2) >> 6;
  const uint8_t code = cdb.u8(2) & 0x3f;
  const uint8_t subpage = cdb.u8(3);
  if (control == saved) return check_condition(sense::saving_not_supported);
  if (subpage != 0 && subpage != all_subpages) return invalid_in_cdb({.byte = 3});
  const bool is_known =
      code == all_pages || std::ranges::find(pages, code, &ModePage::code) != pages.end();
  if (!is_known) return invalid_in_cdb({.byte = 2, .bit = 5});
  const bool has_descriptor = header.has_block_descriptor && !cdb.bit(1, 3);
  const bool is_long = !is_six && cdb.bit(1, 4) && has_descriptor;
  size_t descriptor_bytes = is_long ? long_descriptor_bytes : short_descriptor_bytes;
  if (!has_descriptor) descriptor_bytes = 0;
  ParameterData data;
  put_header(data, header, is_six, is_long, descriptor_bytes);
  if (has_descriptor) put_block_descriptor(data, header, is_long);
  for (const ModePage& page : pages)
    if (code == all_pages || code == page.code) put_page(data, page, control);
  if (is_six) {
    data.set8(0, data.size() - 1);
  } else {
    data.set16(0, data.size() - 2);
  }
  return answer(command, data.bytes(), is_six ? cdb.u8(4) : cdb.u16(7));
}

Checked<std::vector<ModePage>> mode_select(const std::vector<ModePage>& pages,
                                           const ModeHeader& header, const Command& command) {
  const Cdb cdb(command);
  const bool is_six = cdb.opcode() == opcode::mode_select6;
  // SPC-4 6.9: SP asks for saving, and without PF the pages are a vendor's own.
  if (cdb.bit(1, 0)) return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 0}));
  const size_t length = is_six ? cdb.u8(4) : cdb.u16(7);
  std::vector<ModePage> selected;
  if (length == 0) return selected;
  if (!cdb.bit(1, 4)) return std::unexpected(invalid_in_cdb({.byte = 1, .bit = 4}));
  const auto parameters = take_parameters(command, length);
  if (!parameters) return std::unexpected(parameters.error());
  List list{.bytes = *parameters};
  if (const auto fault = check_header(list, is_six, header)) return std::unexpected(*fault);
  while (list.left() != 0) {
    const auto page = next_page(list, pages);
    if (!page) return std::unexpected(page.error());
    selected.push_back(*page);
  }
  return selected;
}

}  // namespace vhdkit::scsi
