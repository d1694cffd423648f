// The payload engine: a chain of layers as one disk.
#pragma once

#include <memory>
#include <vector>

#include "async/task_group.h"
#include "disk/buffer_cutter.h"
#include "disk/disk.h"
#include "disk/layer.h"
#include "disk/layer_writer.h"

namespace vhdkit::disk {

// Owns its layers; the first is the child, each next one the parent of the one before. A layer may
// be larger than its parent: what lies beyond the parent's end reads as zeroes.
class LayeredDisk final : public Disk {
 public:
  // REQUIRES: at least one layer. The geometry is the first layer's; read-only unless that layer
  // has a writer.
  explicit LayeredDisk(std::vector<std::unique_ptr<Layer>> layers);

  const Geometry& geometry() const override { return geometry_; }
  size_t layer_count() const { return layers_.size(); }
  // depth as in Extent: 0 is the child.
  Layer& layer(uint32_t depth) { return *layers_[depth]; }
  // Layer::audit() of every layer: a damaged table is found before anything is read by it.
  Async<void> audit();
  // Everything that was written is durable and the image cleanly closed; nothing else is called
  // afterwards. A disk that was open for reading needs no close(). One that is not closed, or whose
  // close() fails, is as after a crash: what was flushed is there. REQUIRES: no request is in
  // flight.
  Async<void> close();

 private:
  Async<void> do_read(uint64_t disk_offset, Buffers buffers) override;
  Async<void> do_write(uint64_t disk_offset, Buffers buffers, Durability durability) override;
  Async<void> do_flush() override;
  Async<void> do_zero(uint64_t disk_offset, uint64_t length) override;
  Async<void> do_extents(uint64_t disk_offset, uint64_t length, ExtentList& extents) override;

  std::optional<InFlight::Guard> enter();
  std::optional<Extent> peek(uint64_t disk_offset, uint64_t length);
  Async<void> start_reads(async::TaskGroup& reads, uint64_t disk_offset, Buffers buffers);
  Async<void> read_part(Extent extent, std::vector<iovec> buffers);
  Async<void> read_extent(const Extent& extent, uint64_t disk_offset, Buffers buffers);
  Async<void> read_encoded(const Extent& extent, uint64_t disk_offset, Buffers buffers);
  void start_writes(async::TaskGroup& writes, uint64_t disk_offset, Buffers buffers);
  Async<void> overwrite(uint64_t file_offset, std::vector<iovec> buffers);
  Async<void> write_part(uint64_t disk_offset, std::vector<iovec> buffers);
  Async<bool> write_once(uint64_t disk_offset, Buffers buffers);

  std::vector<std::unique_ptr<Layer>> layers_;
  Geometry geometry_;
};

}  // namespace vhdkit::disk
