// The header of a qcow2 image with its extensions: read and validated.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "async/file.h"
#include "image/qcow2_format.h"

namespace vhdkit::image::qcow2 {

// A header whose fields were found valid. Offsets and sizes are bytes.
struct ImageHeader {
  uint32_t version = 2;
  uint32_t cluster_bits = 16;
  uint64_t size_bytes = 0;
  uint64_t l1_table_offset = 0;
  uint64_t incompatible_features = 0;
  uint64_t compatible_features = 0;
  uint32_t refcount_bits = 16;
  uint32_t snapshot_count = 0;
  CompressionType compression = CompressionType::zlib;
  std::optional<std::string> backing_file;  // a native path, not empty
  std::string backing_format;               // empty where the image does not say it

  bool has(uint64_t incompatible_feature) const {
    return (incompatible_features & incompatible_feature) != 0;
  }
  uint64_t cluster_bytes() const { return uint64_t{1} << cluster_bits; }
  uint32_t l2_entry_bytes() const { return has(incompatible::extended_l2) ? 16 : 8; }
  uint64_t l2_entry_count() const { return cluster_bytes() / l2_entry_bytes(); }
  // The part of the disk that one L1 entry stands for.
  uint64_t l2_span_bytes() const { return l2_entry_count() << cluster_bits; }
  // The L1 entries that the disk needs; a table may have more, for the state of a saved machine.
  uint64_t l1_entries_used() const { return ceil_div(size_bytes, l2_span_bytes()); }
};

// Errors: as open_qcow2_layer().
Async<ImageHeader> read_header(File& file);

}  // namespace vhdkit::image::qcow2
