#include "vsp-storage/scsi/disk_reports.h"

#include <algorithm>
#include <bit>

#include "vsp-storage/scsi/block_range.h"
#include "vsp-storage/scsi/mode_pages.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

// Bits of mode pages, SBC-3 6.5.6, SPC-4 7.5.8 and 7.5.11.
constexpr uint8_t caching = 0x08, control = 0x0a, informational_exceptions = 0x1c;
constexpr size_t wce_byte = 0, swp_byte = 2;  // counted behind the page's length
constexpr uint8_t write_cache_enabled = 0x04, software_write_protect = 0x08;

std::vector<ModePage> mode_pages(const DiskState& unit) {
  constexpr uint8_t unrestricted_reordering = 0x10, exceptions_disabled = 0x08;
  ModePage cache{.code = caching, .length = 18, .current = {}, .changeable = {}, .initial = {}};
  cache.changeable[wce_byte] = write_cache_enabled;
  cache.initial[wce_byte] = unit.options.write_cache ? write_cache_enabled : 0;
  cache.current[wce_byte] = unit.writes_are_cached ? write_cache_enabled : 0;
  ModePage rules{.code = control, .length = 10, .current = {}, .changeable = {}, .initial = {}};
  rules.changeable[swp_byte] = software_write_protect;
  rules.initial[1] = unrestricted_reordering;
  rules.current = rules.initial;
  rules.current[swp_byte] = unit.is_protected ? software_write_protect : 0;
  ModePage exceptions{.code = informational_exceptions,
                      .length = 10,
                      .current = {},
                      .changeable = {},
                      .initial = {exceptions_disabled}};
  exceptions.current = exceptions.initial;
  return {cache, rules, exceptions};
}

// SBC-3 6.5.1.
ModeHeader mode_header(const DiskState& unit, const disk::Geometry& geometry) {
  constexpr uint8_t write_protected = 0x80, dpo_and_fua = 0x10;
  const bool is_protected = unit.is_write_protected(geometry);
  return {.medium_type = 0,
          .device_specific = uint8_t((is_protected ? write_protected : 0) | dpo_and_fua),
          .has_block_descriptor = true,
          .block_count = block_count(geometry),
          .block_bytes = geometry.logical_sector_bytes};
}

}  // namespace

Outcome read_capacity10(DiskState&, const disk::Geometry& geometry, const Command& command) {
  const Cdb cdb(command);
  // SBC-2 5.10: an address without PMI.
  if (!cdb.bit(8, 0) && cdb.u32(2) != 0) return invalid_in_cdb({.byte = 2});
  const uint64_t count = block_count(geometry);
  ParameterData data;
  data.put32(std::min<uint64_t>(count == 0 ? 0 : count - 1, UINT32_MAX));
  data.put32(geometry.logical_sector_bytes);
  return answer(command, data.bytes(), data.size());
}

Outcome read_capacity16(DiskState& unit, const disk::Geometry& geometry, const Command& command) {
  constexpr uint8_t provisioning_enabled = 0x80, reads_zeroes = 0x40;
  const Cdb cdb(command);
  if (!cdb.bit(14, 0) && cdb.u64(2) != 0) return invalid_in_cdb({.byte = 2});
  const uint64_t count = block_count(geometry);
  const uint32_t per_physical =
      std::max(geometry.physical_sector_bytes / geometry.logical_sector_bytes, uint32_t{1});
  ParameterData data;
  data.put64(count == 0 ? 0 : count - 1);
  data.put32(geometry.logical_sector_bytes);
  data.put8(0);
  data.put8(uint64_t(std::countr_zero(per_physical)));
  data.put16(unit.can_unmap(geometry) ? (provisioning_enabled | reads_zeroes) << 8 : 0);
  data.put_zeroes(16);
  return answer(command, data.bytes(), cdb.u32(10));
}

Outcome disk_mode_sense(DiskState& unit, const disk::Geometry& geometry, const Command& command) {
  return mode_sense(mode_pages(unit), mode_header(unit, geometry), command);
}

async::Task<Outcome> disk_mode_select(DiskState& unit, disk::Disk& disk, const Command& command) {
  const ModeHeader header = mode_header(unit, disk.geometry());
  const auto selected = mode_select(mode_pages(unit), header, command);
  if (!selected) co_return selected.error();
  const bool was_cached = unit.writes_are_cached;
  const bool was_protected = unit.is_protected;
  for (const ModePage& page : *selected) {
    if (page.code == caching)
      unit.writes_are_cached = (page.current[wce_byte] & write_cache_enabled) != 0;
    if (page.code == control)
      unit.is_protected = (page.current[swp_byte] & software_write_protect) != 0;
  }
  if (was_cached != unit.writes_are_cached || was_protected != unit.is_protected)
    unit.attentions.establish_for_others(Attention::mode_changed, command.initiator);
  if (was_cached && !unit.writes_are_cached && !disk.geometry().read_only) {
    const Result<void> flushed = co_await disk.flush();
    if (!flushed) co_return failed(flushed.error(), Access::write);
  }
  const Cdb cdb(command);
  const bool is_six = cdb.opcode() >> 5 == 0;
  const uint64_t length = is_six ? cdb.u8(4) : cdb.u16(7);
  co_return Outcome{.transferred_bytes = length};
}

Outcome log_sense(DiskState&, const disk::Geometry&, const Command& command) {
  constexpr uint8_t supported_pages = 0x00, exceptions = 0x2f;
  const Cdb cdb(command);
  if (cdb.bit(1, 0)) return invalid_in_cdb({.byte = 1, .bit = 0});  // SP
  if (cdb.u8(3) != 0) return invalid_in_cdb({.byte = 3});           // there are no subpages
  const uint8_t code = cdb.u8(2) & 0x3f;
  ParameterData data;
  data.put8(code);
  data.put8(0);
  data.put16(0);
  if (code == supported_pages) {
    data.put8(supported_pages);
    data.put8(exceptions);
  } else if (code == exceptions) {
    // SPC-4 7.3.9: parameter 0, no exception; a temperature that is not known is 0.
    constexpr uint8_t binary_format_list = 0x03;
    data.put16(0);
    data.put8(binary_format_list);
    data.put8(4);
    data.put32(0);
  } else {
    return invalid_in_cdb({.byte = 2, .bit = 5});
  }
  // PARAMETER POINTER: parameters from this one on; 0 is the only one.
  if (cdb.u16(5) != 0) return invalid_in_cdb({.byte = 5});
  data.set16(2, data.size() - 4);
  return answer(command, data.bytes(), cdb.u16(7));
}

Outcome send_diagnostic(DiskState&, const disk::Geometry&, const Command& command) {
  const Cdb cdb(command);
  if (cdb.u8(1) >> 5 != 0) return invalid_in_cdb({.byte = 1, .bit = 7});  // SELF-TEST CODE
  if (cdb.u16(3) != 0) return invalid_in_cdb({.byte = 3});                // PARAMETER LIST LENGTH
  return {};
}

Outcome request_sense(UnitAttentions& attentions, const Sense& state, const Command& command) {
  const Cdb cdb(command);
  if (cdb.bit(1, 0)) return invalid_in_cdb({.byte = 1, .bit = 0});  // descriptor format
  const auto attention = attentions.take(command.initiator);
  return answer(command, fixed_format(attention ? sense_of(*attention) : state), cdb.u8(4));
}

Outcome prefetch(DiskState&, const disk::Geometry& geometry, const Command& command) {
  if (!range_of(Cdb(command)).fits(block_count(geometry)))
    return check_condition(sense::out_of_range);
  return {};
}

}  // namespace vhdkit::scsi
