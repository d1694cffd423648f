// The fields of a command descriptor block.
#pragma once

#include "vsp-storage/scsi/command.h"

namespace vhdkit::scsi {

// Big-endian integers at byte offsets. What lies behind the block's end reads as zero.
class Cdb {
 public:
  explicit Cdb(const Command& command) : bytes_(command.cdb) {}

  uint8_t u8(size_t at) const { return at < bytes_.size() ? uint8_t(bytes_[at]) : uint8_t{0}; }
  uint16_t u16(size_t at) const { return uint16_t(u8(at) << 8 | u8(at + 1)); }
  uint32_t u24(size_t at) const { return uint32_t{u16(at)} << 8 | u8(at + 2); }
  uint32_t u32(size_t at) const { return uint32_t{u16(at)} << 16 | u16(at + 2); }
  uint64_t u64(size_t at) const { return uint64_t{u32(at)} << 32 | u32(at + 4); }
  bool bit(size_t at, unsigned bit) const { return (u8(at) >> bit & 1) != 0; }

  uint8_t opcode() const { return u8(0); }
  uint8_t service_action() const { return u8(1) & 0x1f; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace vhdkit::scsi
