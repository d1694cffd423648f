// What a format gives to the payload engine: one image file's answer to "where are these guest
// bytes?".
//
// A layer resolves and keeps its own metadata; it moves no payload. So the guest's bytes travel
// between the guest's memory and the file without a stop, and a chain is a loop over layers.
#pragma once

#include "async/file.h"
#include "disk/description.h"
#include "disk/extent.h"
#include "disk/geometry.h"
#include "disk/parent_reference.h"

namespace vhdkit::disk {

class LayerWriter;

// Loop-bound. Owns its file.
class Layer {
 public:
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  virtual ~Layer() = default;

  // Never changes while the layer is open.
  virtual const Geometry& geometry() const = 0;

  // Where data extents lie. A replayed VHDX log shows here: the file is the base file under an
  // overlay.
  virtual File& file() = 0;

  // Appends the extents of [disk_offset, disk_offset + length), depth 0, in guest order, tiling it
  // exactly. disk_offset, length: bytes, any alignment, inside the disk. May stop early once it
  // appended many extents (a long range of a fragmented image): the caller goes on from where they
  // end. Errors: corrupt (an entry points outside the file, a bitmap is missing); io.
  virtual Async<void> resolve(uint64_t disk_offset, uint64_t length, ExtentList& extents) = 0;

  // The first extent of the range, as resolve() would give it, if that is known at once: without
  // I/O, waiting or allocating. Nothing where it is not.
  virtual std::optional<Extent> peek(uint64_t disk_offset, uint64_t length);

  // Null where the layer is open for reading only. Owned by the layer.
  virtual LayerWriter* writer() { return nullptr; }

  // Produces bytes of an encoded extent: disk_offset and buffer lie inside it.
  virtual Async<void> read_encoded(const Extent& extent, uint64_t disk_offset,
                                   std::span<std::byte> buffer);

  // Looks at everything that resolve would use, and fails with the first thing that is wrong, such
  // as two blocks that share their place in the file. Reads no payload. Whole-disk readers call it
  // first.
  virtual Async<void> audit() = 0;

  // The unit in which the layer allocates, bytes; 0 where it does not.
  virtual uint64_t block_size_bytes() const = 0;

  // What `info` shows under "format-specific".
  virtual Description describe() const = 0;

  // Null where the layer needs no parent. Owned by the layer.
  virtual const ParentReference* parent() const { return nullptr; }
  // What a child's ParentReference names: VHD's unique identifier, VHDX's DataWriteGuid.
  virtual std::optional<Guid> identity() const { return std::nullopt; }
  // VHD's time stamp: seconds since 2000-01-01 00:00:00 UTC.
  virtual std::optional<uint32_t> time_stamp() const { return std::nullopt; }
};

}  // namespace vhdkit::disk
