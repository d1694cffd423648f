// A disk as the BIOS has it: sectors of 512 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "support/result.h"

namespace vhdkit::hypervisor {

// Any thread may call; a call takes as long as the disk does.
class Drive {
 public:
  static constexpr size_t sector_bytes = 512;

  virtual ~Drive() = default;
  virtual uint64_t sector_count() const = 0;
  // Whether a transfer of that many bytes may begin now, which counts it: else later. Does not
  // wait.
  virtual bool may_begin(uint64_t bytes) = 0;
  // bytes: a multiple of sector_bytes, from this sector on, inside the disk. Errors: those of the
  // image; of write(), read_only too.
  virtual Result<void> read(uint64_t sector, std::span<std::byte> bytes) = 0;
  virtual Result<void> write(uint64_t sector, std::span<const std::byte> bytes) = 0;
};

}  // namespace vhdkit::hypervisor
