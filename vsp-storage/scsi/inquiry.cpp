#include "vsp-storage/scsi/inquiry.h"

#include <algorithm>

#include "vsp-storage/scsi/block_range.h"
#include "vsp-storage/scsi/command_limits.h"
#include "vsp-storage/scsi/parameter_data.h"

namespace vhdkit::scsi {
namespace {

constexpr uint8_t direct_access = 0x00;
constexpr uint16_t sbc3 = 0x04c0, spc4 = 0x0460, sam5 = 0x00a0;  // SPC-4 table 144

enum Page : uint8_t {
  supported_pages = 0x00,
  unit_serial_number = 0x80,
  device_identification = 0x83,
  block_limits = 0xb0,
  block_device_characteristics = 0xb1,
  logical_block_provisioning = 0xb2,
};
constexpr Page pages[] = {
    supported_pages, unit_serial_number,           device_identification,
    block_limits,    block_device_characteristics, logical_block_provisioning};

std::string serial_number(const DiskUnitOptions& options) {
  if (!options.serial_number.empty()) return options.serial_number.substr(0, 252);
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : options.identifier) {
    text += digits[uint8_t(byte) >> 4];
    text += digits[uint8_t(byte) & 15];
  }
  return text;
}

// SBC-3 6.6.3.
void put_block_limits(ParameterData& page, const DiskState& unit, const disk::Geometry& geometry) {
  constexpr uint32_t alignment_is_valid = uint32_t{1} << 31;
  const uint32_t block_bytes = geometry.logical_sector_bytes;
  const bool can_unmap = unit.can_unmap(geometry);
  page.put8(0);  // WSNZ 0: WRITE SAME of 0 blocks goes on to the end
  page.put8(limits::compare_and_write_blocks);
  page.put16(geometry.physical_sector_bytes / block_bytes);  // OPTIMAL TRANSFER LENGTH GRANULARITY
  page.put32(0);                                             // MAXIMUM TRANSFER LENGTH: none
  page.put32(0);
  page.put32(0);
  page.put32(can_unmap ? limits::unmap_blocks : 0);
  page.put32(can_unmap ? limits::unmap_descriptors : 0);
  const uint32_t granularity = unit.options.trim_granularity_bytes / block_bytes;
  page.put32(can_unmap ? std::max(granularity, uint32_t{1}) : 0);
  page.put32(can_unmap ? alignment_is_valid : 0);
  page.put64(limits::write_same_bytes / block_bytes);
  page.put_zeroes(20);
}

// SBC-3 6.6.2.
void put_characteristics(ParameterData& page, const DiskState& unit) {
  page.put16(unit.options.rotation_rate);
  page.put_zeroes(58);
}

// SBC-3 6.6.4: unmapped blocks read as zeroes.
void put_provisioning(ParameterData& page, bool can_unmap) {
  constexpr uint8_t by_unmap = 0x80, by_write_same16 = 0x40, by_write_same10 = 0x20,
                    reads_zeroes = 0x04;
  constexpr uint8_t thin = 2;
  page.put8(0);
  page.put8(can_unmap ? by_unmap | by_write_same16 | by_write_same10 | reads_zeroes : 0);
  page.put8(can_unmap ? thin : 0);
  page.put8(0);
}

Outcome inquire_page(const DiskState& unit, const disk::Geometry& geometry,
                     const Command& command) {
  const uint8_t code = Cdb(command).u8(2);
  ParameterData page = begin_page(direct_access, code);
  switch (code) {
    case supported_pages:
      for (const Page each : pages) page.put8(each);
      break;
    case unit_serial_number: {
      const std::string text = serial_number(unit.options);
      page.put_text(text, text.size());
      break;
    }
    case device_identification:
      put_designators(page, unit.options.vendor, unit.options.identifier);
      break;
    case block_limits:
      put_block_limits(page, unit, geometry);
      break;
    case block_device_characteristics:
      put_characteristics(page, unit);
      break;
    case logical_block_provisioning:
      put_provisioning(page, unit.can_unmap(geometry));
      break;
    default:
      return invalid_in_cdb({.byte = 2});
  }
  return answer_page(page, command);
}

}  // namespace

ParameterData begin_page(uint8_t device_type, uint8_t page) {
  ParameterData data;
  data.put8(device_type);
  data.put8(page);
  data.put16(0);
  return data;
}

Outcome answer_page(ParameterData& page, const Command& command) {
  page.set16(2, page.size() - 4);
  return answer(command, page.bytes(), Cdb(command).u16(3));
}

void put_designators(ParameterData& page, std::string_view vendor,
                     std::span<const std::byte, 16> identifier) {
  constexpr uint8_t binary = 0x01, t10_vendor = 0x01, naa = 0x03;
  constexpr uint32_t registered_extended_microsoft = 0x60022480;  // NAA 6, company 00-22-48
  page.put8(binary);
  page.put8(t10_vendor);
  page.put8(0);
  page.put8(8 + identifier.size());
  page.put_text(vendor, 8);
  page.put_bytes(identifier);
  page.put8(binary);
  page.put8(naa);
  page.put8(0);
  page.put8(16);
  page.put32(registered_extended_microsoft);
  page.put_bytes(identifier.first<6>());
  page.put_bytes(identifier.last<6>());
}

Outcome standard_inquiry(const Identity& identity, uint16_t device_standard,
                         const Command& command) {
  constexpr uint8_t removable = 0x80, version = 0x06, hierarchical_and_format_2 = 0x12,
                    command_queuing = 0x02;
  const Cdb cdb(command);
  if (cdb.bit(1, 1)) return invalid_in_cdb({.byte = 1, .bit = 1});  // CMDDT of SPC-2
  if (cdb.u8(2) != 0) return invalid_in_cdb({.byte = 2});
  ParameterData data;
  data.put8(identity.device_type);
  data.put8(identity.is_removable ? removable : 0);
  data.put8(version);
  data.put8(hierarchical_and_format_2);
  data.put8(0);
  data.put16(0);
  data.put8(command_queuing);
  data.put_text(identity.vendor, 8);
  data.put_text(identity.product, 16);
  data.put_text(identity.revision, 4);
  data.put_zeroes(22);  // vendor specific, reserved
  data.put16(sam5);
  data.put16(spc4);
  data.put16(device_standard);
  data.put_zeroes(10);
  data.set8(4, data.size() - 5);
  return answer(command, data.bytes(), cdb.u16(3));
}

Outcome inquire_disk(const DiskState& unit, const disk::Geometry& geometry,
                     const Command& command) {
  if (Cdb(command).bit(1, 0)) return inquire_page(unit, geometry, command);
  const DiskUnitOptions& options = unit.options;
  const Identity identity{.device_type = direct_access,
                          .is_removable = options.is_removable,
                          .vendor = options.vendor,
                          .product = options.product,
                          .revision = options.revision};
  return standard_inquiry(identity, sbc3, command);
}

}  // namespace vhdkit::scsi
