// What everybody who writes relies on, whatever the image looks like.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "disk/layered_disk.h"
#include "fuzz/input.h"
#include "support/checked.h"

namespace vhdkit::fuzz {

// Writes and zeroes some sectors of an image that was opened for writing, and closes it. Where a
// step succeeds, the sectors hold what it says, and none of the others that are looked at changes.
inline void write_sectors(std::unique_ptr<disk::Layer> layer) {
  const uint64_t block_bytes = std::max<uint64_t>(layer->block_size_bytes(), 4096);
  std::vector<std::unique_ptr<disk::Layer>> layers;
  layers.push_back(std::move(layer));
  disk::LayeredDisk disk(std::move(layers));
  const uint64_t size = disk.geometry().size_bytes;
  const uint64_t sector = disk.geometry().logical_sector_bytes;
  if (size < 4 * sector) return;
  std::vector<std::byte> sectors(2 * sector);
  uint8_t value = 0;
  const uint64_t last = align_down(size - sectors.size(), sector);
  for (const uint64_t wanted : {uint64_t{0}, block_bytes - sector, size / 2, last}) {
    const uint64_t disk_offset = std::min(align_down(wanted, sector), last);
    std::vector<std::byte> before(sector);
    const std::span<std::byte> before_bytes(before);
    const uint64_t neighbour = disk_offset >= sector ? disk_offset - sector : 2 * sector;
    const bool is_known = run(disk.read(neighbour, before_bytes)).has_value();
    std::ranges::fill(sectors, std::byte{++value});
    const std::span<const std::byte> written(sectors);
    if (!run(disk.write(disk_offset, written))) return;
    const bool is_zeroed = value % 2 == 0;
    if (is_zeroed && !run(disk.zero(disk_offset, sectors.size()))) return;
    if (value % 3 == 0 && !run(disk.flush())) return;
    std::vector<std::byte> found(sectors.size());
    const std::span<std::byte> found_bytes(found);
    require(run(disk.read(disk_offset, found_bytes)).has_value(), "what was written can be read");
    if (is_zeroed) std::ranges::fill(sectors, std::byte{0});
    require(found == sectors, "what was written is there");
    std::vector<std::byte> after(sector);
    const std::span<std::byte> after_bytes(after);
    if (is_known && run(disk.read(neighbour, after_bytes)))
      require(before == after, "the sector beside it is as it was");
  }
  std::ignore = run(disk.zero(0, std::min(size, 3 * block_bytes) / sector * sector));
  std::ignore = run(disk.close());
}

}  // namespace vhdkit::fuzz
