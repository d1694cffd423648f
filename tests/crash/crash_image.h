// The images that the crash test writes to: every type, with a parent where it needs one, and
// children on top.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "async/memory_file.h"
#include "disk/bulk_writer.h"
#include "disk/layered_disk.h"
#include "support/checked.h"
#include "tests/support/disk_oracle.h"

namespace vhdkit::tests {

class CrashImage {
 public:
  // Of the VHDX images made here: log, metadata region and BAT region lie before it.
  static constexpr uint64_t first_block_offset = 4 * MiB;

  // One of the kinds, as the seed says; the parent's content is the oracle's from the beginning.
  explicit CrashImage(std::mt19937_64& random);

  std::string kind() const;
  uint64_t size_bytes() const { return shape_.size_bytes; }
  uint64_t block_bytes() const { return shape_.block_bytes; }
  uint64_t sector_bytes() const { return shape_.sector_bytes; }
  DiskOracle& oracle() { return oracle_; }
  const DiskOracle& oracle() const { return oracle_; }
  // The new image's file.
  const async::MemoryFile& content() const { return content_; }

  // The file of an empty child of the image that this file has.
  Async<async::MemoryFile> new_child(std::unique_ptr<File> parent) const;

  enum class Access : uint8_t { read_only, write, merge };  // of the first image
  using Files = std::vector<std::unique_ptr<File>>;         // of a chain, child first
  // The disk in these files. Errors also where a child does not name its parent.
  Async<std::unique_ptr<disk::LayeredDisk>> open(Files files, Access access) const;
  // Empty, or the first corruption that the check of this file finds.
  Async<std::string> corruption(File& file) const;

 private:
  enum class Type : uint8_t { fixed, dynamic, differencing };
  struct Shape {
    bool is_vhd;
    Type type;
    uint32_t block_bytes;
    uint32_t sector_bytes;
    uint64_t size_bytes;
  };
  static Shape draw_shape(std::mt19937_64& random);
  Result<std::unique_ptr<disk::BulkWriter>> create(File& file, Type type, const Guid& identity,
                                                   const Guid& parent_identity) const;
  void make_parent(std::mt19937_64& random);
  Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file, Access access) const;

  Shape shape_;
  DiskOracle oracle_;
  async::MemoryFile parent_;
  async::MemoryFile content_;
};

}  // namespace vhdkit::tests
