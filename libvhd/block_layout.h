// Where blocks may lie in a dynamic or differencing image, and whether they lie apart.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "libvhd/format.h"
#include "libvhd/parent_locator.h"

namespace vhdkit::libvhd {

// The file offset of a BAT entry's block, bytes.
constexpr uint64_t begin_of(uint32_t sector) { return uint64_t{sector} * sector_bytes; }

// Something of the file that is no block.
struct Structure {
  std::string name;  // "the BAT"
  uint64_t file_offset;
  uint64_t length;                             // bytes, as far as its content goes
  uint64_t room;                               // bytes, with its padding
  std::optional<uint32_t> locator_index = {};  // set for a parent locator's data
};

// The places of one image's structures: all that tells whether a BAT entry is right.
struct BlockLayout {
  uint64_t disk_bytes = 0;
  uint64_t block_bytes = default_block_bytes;
  uint64_t table_offset = 0;
  uint64_t table_entries = 0;  // those that the header counts and the file has
  uint64_t content_end = 0;    // bytes: where the footer at the tail begins
  std::vector<Structure> structures;

  uint64_t block_count() const { return ceil_div(disk_bytes, block_bytes); }
  uint64_t bitmap_bytes() const { return align_up(block_bytes / sector_bytes / 8, sector_bytes); }
  // The block's data that lies inside the disk. Old QEMU cut the last block off there.
  uint64_t data_bytes(uint64_t block_index) const;
};

// located: the locators whose data is to be kept free of blocks.
BlockLayout layout_of(uint64_t disk_bytes, uint64_t header_offset, const DynamicDiskHeader& header,
                      const std::vector<LocatedParent>& located, uint64_t content_end);

// Why a BAT entry cannot be followed.
struct EntryFault {
  enum class Kind { in_metadata, past_end };
  Kind kind;
  size_t structure_index = 0;  // of the layout: what the block would lie upon; in_metadata only
};

// entry: not unused_bat_entry. Nothing where the block lies in its place.
std::optional<EntryFault> entry_fault(const BlockLayout& layout, uint64_t block_index,
                                      uint32_t entry);

// "sector 0x3 puts the block upon the BAT (0x600 to 0x800)"
std::string fault_text(const BlockLayout& layout, uint64_t block_index, uint32_t entry,
                       const EntryFault& fault);

// "BAT entry 17 at offset 0x644"
std::string entry_name(const BlockLayout& layout, uint64_t block_index);

// The places of the allocated blocks, kept until they are compared. Takes at most as many as fit
// into the file apart from each other, so its memory is bounded by the file.
class BlockPlaces {
 public:
  struct Place {
    uint32_t sector;
    uint32_t block_index;
  };

  explicit BlockPlaces(const BlockLayout& layout);

  // False: no more blocks fit into the file, so those here overlap already.
  bool add(uint64_t block_index, uint32_t sector);

  // In file order, then in guest order.
  const std::vector<Place>& sorted();

 private:
  uint64_t capacity_;
  std::vector<Place> places_;
};

// Where the block ends in the file.
uint64_t end_of_place(const BlockLayout& layout, const BlockPlaces::Place& place);

}  // namespace vhdkit::libvhd
