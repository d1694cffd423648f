// The logical blocks that a CDB names.
#pragma once

#include "disk/geometry.h"
#include "support/checked.h"
#include "vsp-storage/scsi/cdb.h"

namespace vhdkit::scsi {

struct BlockRange {
  uint64_t lba;
  uint64_t count;

  // Whether all of it lies below the capacity; so does an empty range at its end.
  bool fits(uint64_t block_count) const { return range_fits(lba, count, block_count); }
};

// LOGICAL BLOCK ADDRESS and TRANSFER LENGTH where READ, WRITE, VERIFY and their kin have them in
// CDBs of 6, 10, 12 and 16 bytes, told apart by the group of the operation code (SPC-4 4.2.5.1).
inline BlockRange range_of(const Cdb& cdb) {
  switch (cdb.opcode() >> 5) {
    case 0:
      // SBC-3 5.8: 0 is 256 blocks.
      return {.lba = cdb.u24(1) & 0x1fffff, .count = cdb.u8(4) == 0 ? 256u : cdb.u8(4)};
    case 4:
      return {.lba = cdb.u64(2), .count = cdb.u32(10)};
    case 5:
      return {.lba = cdb.u32(2), .count = cdb.u32(6)};
    default:
      return {.lba = cdb.u32(2), .count = cdb.u16(7)};
  }
}

inline uint64_t block_count(const disk::Geometry& geometry) {
  return geometry.size_bytes / geometry.logical_sector_bytes;
}

}  // namespace vhdkit::scsi
