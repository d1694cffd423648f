// INQUIRY: standard data and vital product data (SPC-4 6.6, 7.8; SBC-3 6.6).
#pragma once

#include "disk/geometry.h"
#include "vsp-storage/scsi/disk_state.h"

namespace vhdkit::scsi {

// Pages 00, 80, 83, B0, B1 and B2. The device is an SBC-3 disk.
Outcome inquire_disk(const DiskState& unit, const disk::Geometry& geometry, const Command& command);

// What of a disk unit's identity any kind of unit has.
struct Identity {
  uint8_t device_type;  // SPC-4 table 141
  bool is_removable;
  std::string_view vendor;    // 8 characters
  std::string_view product;   // 16
  std::string_view revision;  // 4
};
// With the version descriptors of SPC-4, SAM-5 and the device type's own standard.
Outcome standard_inquiry(const Identity& identity, uint16_t device_standard,
                         const Command& command);

class ParameterData;
// The head of a page; set16(2, size - 4) ends it.
ParameterData begin_page(uint8_t device_type, uint8_t page);
Outcome answer_page(ParameterData& page, const Command& command);

// Page 83's two designators (SPC-4 7.8.5): vendor and identifier, and an NAA made of it, with
// Microsoft's company number and the identifier's first and last six bytes, as Hyper-V does it.
void put_designators(ParameterData& page, std::string_view vendor,
                     std::span<const std::byte, 16> identifier);

}  // namespace vhdkit::scsi
