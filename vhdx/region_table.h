// The region tables: where the BAT and the metadata region lie.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "async/file.h"
#include "support/guid.h"
#include "vhdx/format.h"
#include "vhdx/headers.h"

namespace vhdkit::vhdx {

struct Region {
  Guid guid;
  uint64_t file_offset = 0;  // bytes, multiple of 1 MiB
  uint64_t length = 0;       // bytes, multiple of 1 MiB
  bool required = false;
};

// "BAT region", "metadata region", "region GUID"
std::string region_name(const Guid& guid);
bool is_known_region(const Guid& guid);

struct RegionTable {
  Region bat;
  Region metadata;
  std::vector<Region> unknown;        // not required; kept as they are
  unsigned used_index = 0;            // 0: the copy at 192 KiB, 1: at 256 KiB
  std::array<std::string, 2> damage;  // why a copy is not valid; empty where it is
};

// Reads the first copy, or the second where the first is damaged (signature, checksum, entry
// count). [MS-VHDX] 2.2.3. Regions lie apart from each other, from the header section and from the
// log.
//
// file: as it is after replay of the log. Messages begin with its name.
// Errors: corrupt (both copies damaged; BAT or metadata region missing; a region that is twice
// there, not aligned, upon another structure or past the end of the file); unsupported (a required
// region that nobody here knows, by its GUID); io.
Async<RegionTable> read_region_table(File& file, const FileHeader& header);

// Both copies are the same 64 KiB, with their checksum.
std::vector<std::byte> build_region_table(const Region& bat, const Region& metadata);

// Gives a region of this copy another place, and the copy its checksum. REQUIRES: a valid copy that
// has the region.
void move_region(std::span<std::byte> table, const Region& region);

}  // namespace vhdkit::vhdx
