// One request to a disk, as `vhd io` takes it: "write -P 0xab 1M 64K".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "support/result.h"

namespace vhdkit::tools {

// What a range is filled with, and what it is compared with: a byte, or pseudo-random words that
// follow from a seed and the place on the disk, so that any part of a range can be verified.
struct IoPattern {
  bool is_seeded = false;
  uint64_t value = 0xcd;  // the byte, as qemu-io's, or the seed

  void fill(uint64_t disk_offset, std::span<std::byte> bytes) const;
};

struct IoCommand {
  enum class Kind : uint8_t { read, write, zero, flush };
  Kind kind = Kind::flush;
  uint64_t disk_offset = 0;
  uint64_t length = 0;               // bytes
  std::optional<IoPattern> pattern;  // read: what must be there; write: always set
  bool is_durable = false;           // write: -f

  bool changes_disk() const { return kind == Kind::write || kind == Kind::zero; }
};

// read [-P BYTE | -S SEED] OFFSET LENGTH
// write [-P BYTE | -S SEED] [-f] OFFSET LENGTH
// zero OFFSET LENGTH, with the other names trim and discard
// flush
// Errors: invalid_argument, naming the command.
Result<IoCommand> parse_io_command(std::string_view text);

}  // namespace vhdkit::tools
