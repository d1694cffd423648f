// The payload engine: a chain of layers as one disk.
#pragma once

#include <memory>
#include <vector>

#include "disk/disk.h"
#include "disk/layer.h"

namespace vhdkit::disk {

// Owns its layers; the first is the child, each next one the parent of the one before. A layer may
// be larger than its parent: what lies beyond the parent's end reads as zeroes.
class LayeredDisk final : public Disk {
 public:
  // REQUIRES: at least one layer. The geometry is the first layer's, read-only.
  explicit LayeredDisk(std::vector<std::unique_ptr<Layer>> layers);

  const Geometry& geometry() const override { return geometry_; }
  size_t layer_count() const { return layers_.size(); }
  // depth as in Extent: 0 is the child.
  Layer& layer(uint32_t depth) { return *layers_[depth]; }
  // Layer::audit() of every layer: a damaged table is found before anything is read by it.
  Async<void> audit();

 private:
  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override;
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) override;
  Async<void> do_flush() override;
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override;
  Async<void> do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) override;

  Async<void> read_extent(const Extent& extent, uint64_t disk_offset, std::span<std::byte> buffer);

  std::vector<std::unique_ptr<Layer>> layers_;
  Geometry geometry_;
};

}  // namespace vhdkit::disk
