// Where the guest's bytes are: the answer that every format gives, and all that the payload engine
// needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vhdkit::disk {

enum class ExtentKind : uint8_t {
  data,     // at file_offset of the layer's file, byte for byte
  zero,     // reads as zeroes, whatever lies below
  parent,   // not in this layer: the parent's bytes, zeroes where there is none
  encoded,  // in this layer, but only the layer itself can produce it (compressed clusters)
};

struct Extent {
  uint64_t disk_offset;  // bytes of the guest's disk
  uint64_t length;       // bytes, at least 1
  ExtentKind kind;
  // Which layer answers: 0 is the layer itself or the top of a chain, 1 its parent, …
  uint32_t depth = 0;
  uint64_t file_offset =
      0;  // bytes; data only. For encoded: whatever the layer wants to find again.
  // Zero only, and only as layers answer: so it reads here, but the format does not say so, and
  // another program may find old content there.
  bool is_undefined = false;

  // Whether next goes on where this one ends, in the guest and in the file.
  bool continued_by(const Extent& next) const {
    return kind == next.kind && depth == next.depth && is_undefined == next.is_undefined &&
           kind != ExtentKind::encoded && disk_offset + length == next.disk_offset &&
           (kind != ExtentKind::data || file_offset + length == next.file_offset);
  }
};

// Extents in guest order that tile a range exactly; neighbours that continue each other are one.
class ExtentList {
 public:
  void append(const Extent& extent) {
    if (!extents_.empty() && extents_.back().continued_by(extent)) {
      extents_.back().length += extent.length;
    } else {
      extents_.push_back(extent);
    }
  }
  // Keeps the memory, for the next request.
  void clear() { extents_.clear(); }

  bool empty() const { return extents_.empty(); }
  size_t size() const { return extents_.size(); }
  const Extent& operator[](size_t index) const { return extents_[index]; }
  auto begin() const { return extents_.begin(); }
  auto end() const { return extents_.end(); }

 private:
  std::vector<Extent> extents_;
};

}  // namespace vhdkit::disk
