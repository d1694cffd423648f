#include "vsp-storage/scsi/optical_reports.h"

#include <algorithm>

#include "vsp-storage/scsi/cdb.h"
#include "vsp-storage/scsi/inquiry.h"
#include "vsp-storage/scsi/mode_pages.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr uint8_t cd_dvd_device = 0x05;
constexpr uint16_t mmc6 = 0x04e0;
constexpr uint8_t lead_out = 0xaa;
constexpr uint8_t data_track = 0x14;                   // ADR 1, CONTROL 4
constexpr uint16_t dvd_rom = 0x0010, cd_rom = 0x0008;  // profiles, MMC-6 table 95

// Minutes, seconds and frames, MMC-6 4.2.5.2; the last address that they have where it is beyond.
void put_msf(ParameterData& data, uint64_t lba) {
  constexpr uint64_t frames_per_second = 75, lead_in_frames = 150;
  constexpr uint64_t last = 256 * 60 * frames_per_second - 1;
  const uint64_t frames = std::min(lba + lead_in_frames, last);
  data.put8(frames / frames_per_second / 60);
  data.put8(frames / frames_per_second % 60);
  data.put8(frames % frames_per_second);
}

void put_address(ParameterData& data, uint64_t lba, bool as_msf) {
  if (!as_msf) {
    data.put32(std::min<uint64_t>(lba, UINT32_MAX));
    return;
  }
  data.put8(0);
  put_msf(data, lba);
}

struct TrackAddress {
  uint8_t track;
  uint64_t lba;
};

void put_track(ParameterData& data, TrackAddress address, bool as_msf) {
  data.put8(0);
  data.put8(data_track);
  data.put8(address.track);
  data.put8(0);
  put_address(data, address.lba, as_msf);
}

// An entry of the raw TOC, MMC-6 table 488: POINT A0 first track, A1 last track, A2 lead-out, or a
// track.
struct RawEntry {
  uint8_t point;
  uint8_t minute;  // or the track
};

void put_raw_head(ParameterData& data, uint8_t point) {
  data.put8(1);  // session
  data.put8(data_track);
  data.put8(0);
  data.put8(point);
  data.put_zeroes(4);
}

void put_raw_toc(ParameterData& data, uint64_t block_count) {
  for (const RawEntry entry : {RawEntry{0xa0, 1}, RawEntry{0xa1, 1}}) {
    put_raw_head(data, entry.point);
    data.put8(entry.minute);
    data.put16(0);
  }
  put_raw_head(data, 0xa2);
  put_msf(data, block_count);
  put_raw_head(data, 1);
  put_msf(data, 0);
}

// A feature descriptor's head, MMC-6 table 92.
struct Feature {
  uint16_t code;
  uint8_t version;
  bool is_persistent;
  bool needs_medium;
};

constexpr Feature features[] = {
    {0x0000, 0, true, false},  // profile list
    {0x0001, 2, true, false},  // core
    {0x0002, 1, true, false},  // morphing
    {0x0003, 0, true, false},  // removable medium
    {0x0010, 0, false, true},  // random readable
    {0x001f, 0, false, true},  // DVD read
    {0x0100, 0, true, false},  // power management
    {0x0105, 0, true, false},  // timeout
};

void put_feature(ParameterData& data, const Feature& feature, bool has_medium) {
  constexpr uint8_t tray_that_locks_and_ejects = 0x29;
  constexpr uint8_t current = 0x01, persistent = 0x02;
  const size_t head = data.size();
  data.put16(feature.code);
  const bool is_current = has_medium || !feature.needs_medium;
  data.put8((is_current ? current : 0) | (feature.is_persistent ? persistent : 0) |
            feature.version << 2);
  data.put8(0);
  switch (feature.code) {
    case 0x0000:
      data.put16(dvd_rom);
      data.put16(has_medium ? 0x0100 : 0);
      data.put16(cd_rom);
      data.put16(0);
      break;
    case 0x0001:
      data.put32(1);           // physical interface: SCSI
      data.put32(0x01000000);  // DBE
      break;
    case 0x0002:
      data.put32(0);
      break;
    case 0x0003:
      data.put8(tray_that_locks_and_ejects);
      data.put24(0);
      break;
    case 0x0010:
      data.put32(OpticalState::block_bytes);
      data.put16(1);  // blocking
      data.put16(0);
      break;
    case 0x0105:
      data.put32(0);
      break;
    default:
      break;
  }
  data.set8(head + 3, data.size() - head - 4);
}

std::vector<ModePage> mode_pages(const OpticalState& unit) {
  ModePage recovery{.code = 0x01, .length = 10, .current = {}, .changeable = {}, .initial = {}};
  // MMC-3 5.5.10: reads CD-R, CD-RW and DVD-ROM; a tray that ejects and locks.
  constexpr uint8_t readable = 0x0b, tray_lock_and_eject = 0x29, is_locked = 0x02;
  ModePage capabilities{.code = 0x2a,
                        .length = 20,
                        .current = {readable, 0, 0, 0, tray_lock_and_eject},
                        .changeable = {},
                        .initial = {}};
  if (unit.removal_locks.is_prevented()) capabilities.current[4] |= is_locked;
  // Speeds in kB/s (8x DVD), as drives without a motor have to say something.
  for (const size_t at : {size_t{6}, size_t{12}}) {
    capabilities.current[at] = 0x2b;
    capabilities.current[at + 1] = 0x48;
  }
  capabilities.initial = capabilities.current;
  return {recovery, capabilities};
}

}  // namespace

Outcome inquire_optical(OpticalState& unit, const disk::Geometry&, const Command& command) {
  const Cdb cdb(command);
  const OpticalUnitOptions& options = unit.options;
  if (!cdb.bit(1, 0)) {
    const Identity identity{.device_type = cd_dvd_device,
                            .is_removable = true,
                            .vendor = options.vendor,
                            .product = options.product,
                            .revision = options.revision};
    return standard_inquiry(identity, mmc6, command);
  }
  const uint8_t code = cdb.u8(2);
  ParameterData page = begin_page(cd_dvd_device, code);
  switch (code) {
    case 0x00:
      page.put16(0x0083);
      break;
    case 0x83:
      put_designators(page, options.vendor, options.identifier);
      break;
    default:
      return invalid_in_cdb({.byte = 2});
  }
  return answer_page(page, command);
}

Outcome read_optical_capacity(OpticalState& unit, const disk::Geometry&, const Command& command) {
  const uint64_t count = unit.block_count;
  ParameterData data;
  data.put32(std::min<uint64_t>(count == 0 ? 0 : count - 1, UINT32_MAX));
  data.put32(OpticalState::block_bytes);
  return answer(command, data.bytes(), data.size());
}

Outcome read_toc(OpticalState& unit, const disk::Geometry&, const Command& command) {
  enum Format : uint8_t { toc = 0, sessions = 1, raw_toc = 2 };
  const Cdb cdb(command);
  const bool as_msf = cdb.bit(1, 1);
  // Where FORMAT is 0, older hosts have it in the upper bits of CONTROL (SFF-8020i).
  const uint8_t format = (cdb.u8(2) & 0x0f) != 0 ? cdb.u8(2) & 0x0f : cdb.u8(9) >> 6;
  const uint8_t first = cdb.u8(6);  // track or session
  const uint64_t end = unit.block_count;
  ParameterData data;
  data.put16(0);
  data.put16(0x0101);  // first and last track, or session
  switch (format) {
    case toc:
      if (first > 1 && first != lead_out) return invalid_in_cdb({.byte = 6});
      if (first <= 1) put_track(data, {.track = 1, .lba = 0}, as_msf);
      put_track(data, {.track = lead_out, .lba = end}, as_msf);
      break;
    case sessions:
      put_track(data, {.track = 1, .lba = 0}, as_msf);
      break;
    case raw_toc:
      if (first > 1) return invalid_in_cdb({.byte = 6});
      put_raw_toc(data, end);
      break;
    default:
      return invalid_in_cdb({.byte = 2, .bit = 3});
  }
  data.set16(0, data.size() - 2);
  return answer(command, data.bytes(), cdb.u16(7));
}

Outcome get_configuration(OpticalState& unit, const disk::Geometry&, const Command& command) {
  enum Request : uint8_t { all = 0, all_current = 1, one = 2 };
  const Cdb cdb(command);
  const uint8_t request = cdb.u8(1) & 3;
  if (request > one) return invalid_in_cdb({.byte = 1, .bit = 1});
  const uint16_t start = cdb.u16(2);
  const bool has_medium = unit.has_medium();
  ParameterData data;
  data.put32(0);
  data.put16(0);
  data.put16(has_medium ? dvd_rom : 0);
  for (const Feature& feature : features) {
    const bool is_current = has_medium || !feature.needs_medium;
    if (request == one ? feature.code != start : feature.code < start) continue;
    if (request == all_current && !is_current) continue;
    put_feature(data, feature, has_medium);
  }
  data.set32(0, data.size() - 4);
  return answer(command, data.bytes(), cdb.u16(7));
}

Outcome get_event_status(OpticalState& unit, const disk::Geometry&, const Command& command) {
  constexpr uint8_t no_event_available = 0x80, media_class = 4, media_mask = 1 << media_class;
  constexpr uint8_t tray_open = 0x01, medium_present = 0x02;
  const Cdb cdb(command);
  if (!cdb.bit(1, 0)) return invalid_in_cdb({.byte = 1, .bit = 0});  // asynchronous
  const bool is_asked = (cdb.u8(4) & media_mask) != 0;
  ParameterData data;
  data.put16(is_asked ? 6 : 2);  // what follows
  data.put8(is_asked ? media_class : no_event_available);
  data.put8(media_mask);
  if (is_asked) {
    // An event is told when all of it is.
    const bool is_told = cdb.u16(7) > 4;
    data.put8(uint8_t(is_told ? unit.event.exchange(MediaEvent::none) : MediaEvent::none));
    data.put8((unit.is_tray_open ? tray_open : 0) | (unit.has_medium() ? medium_present : 0));
    data.put16(0);
  }
  return answer(command, data.bytes(), cdb.u16(7));
}

Outcome read_disc_information(OpticalState&, const disk::Geometry&, const Command& command) {
  constexpr uint8_t complete_disc_and_session = 0x0e, unrestricted_use = 0x20;
  const Cdb cdb(command);
  if ((cdb.u8(1) & 7) != 0) return invalid_in_cdb({.byte = 1, .bit = 2});
  ParameterData data;
  data.put16(32);
  data.put8(complete_disc_and_session);
  data.put8(1);  // first track
  data.put8(1);  // sessions
  data.put8(1);  // first track of the last session
  data.put8(1);  // last track of it
  data.put8(unrestricted_use);
  data.put_zeroes(8);
  data.put64(UINT64_MAX);  // nothing is to be written: no lead-in, no lead-out
  data.put_zeroes(10);
  return answer(command, data.bytes(), cdb.u16(7));
}

Outcome read_track_information(OpticalState& unit, const disk::Geometry&, const Command& command) {
  enum AddressType : uint8_t { block = 0, track = 1, session = 2 };
  constexpr uint8_t track_mode = 0x04, data_mode = 0x01;
  const Cdb cdb(command);
  const uint64_t count = unit.block_count;
  const uint32_t address = cdb.u32(2);
  const uint8_t type = cdb.u8(1) & 3;
  const bool is_there = (type == block && address < count) || (type == track && address == 1) ||
                        (type == session && address == 1);
  if (!is_there && type == block) return check_condition(sense::out_of_range);
  if (!is_there) return invalid_in_cdb({.byte = 2});
  ParameterData data;
  data.put16(34);
  data.put8(1);  // track
  data.put8(1);  // session
  data.put8(0);
  data.put8(track_mode);
  data.put8(data_mode);
  data.put8(0);
  data.put32(0);  // starts at block 0
  data.put_zeroes(12);
  data.put32(std::min<uint64_t>(count, UINT32_MAX));
  data.put_zeroes(8);
  return answer(command, data.bytes(), cdb.u16(7));
}

Outcome read_disc_structure(OpticalState& unit, const disk::Geometry&, const Command& command) {
  enum Format : uint8_t { physical = 0, copyright = 1 };
  constexpr uint32_t first_sector = 0x30000;
  const Cdb cdb(command);
  if ((cdb.u8(1) & 0x0f) != 0) return invalid_in_cdb({.byte = 1, .bit = 3});  // not of a DVD
  if (cdb.u8(6) != 0) return invalid_in_cdb({.byte = 6});                     // layer
  ParameterData data;
  data.put16(0);
  data.put16(0);
  switch (cdb.u8(7)) {
    case physical:
      data.put8(0x01);  // DVD-ROM, version 1
      data.put8(0x0f);  // 120 mm, maximum rate not specified
      data.put8(0x01);  // one layer with embossed data
      data.put8(0);
      data.put32(first_sector);
      data.put32(first_sector + std::min<uint64_t>(unit.block_count, 0xfcffff) - 1);
      data.put32(0);
      data.put_zeroes(2048 - 16);
      break;
    case copyright:
      data.put32(0);
      break;
    default:
      return invalid_in_cdb({.byte = 7});
  }
  data.set16(0, data.size() - 2);
  return answer(command, data.bytes(), cdb.u16(8));
}

Outcome mechanism_status(OpticalState& unit, const disk::Geometry&, const Command& command) {
  constexpr uint8_t door_open = 0x10;
  ParameterData data;
  data.put8(0);
  data.put8(unit.is_tray_open ? door_open : 0);
  data.put24(0);  // current block
  data.put8(1);   // slots
  data.put16(0);
  return answer(command, data.bytes(), Cdb(command).u16(8));
}

Outcome optical_mode_sense(OpticalState& unit, const disk::Geometry&, const Command& command) {
  const ModeHeader header{.medium_type = 0,
                          .device_specific = 0,
                          .has_block_descriptor = false,
                          .block_count = 0,
                          .block_bytes = 0};
  return mode_sense(mode_pages(unit), header, command);
}

}  // namespace vhdkit::scsi
