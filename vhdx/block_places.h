// Where payload and sector bitmap blocks may lie in the file, and whether they lie apart.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "vhdx/bat.h"
#include "vhdx/metadata.h"
#include "vhdx/region_table.h"

namespace vhdkit::vhdx {

// Something of the file that is no block.
struct Structure {
  std::string name;  // "the BAT region"
  uint64_t file_offset;
  uint64_t length;  // bytes
};

// All that tells whether a BAT entry is right.
struct ImageLayout {
  BatLayout bat;
  uint64_t bat_offset = 0;            // bytes: the BAT region
  uint64_t file_bytes = 0;            // of the file after replay of its log
  std::vector<Structure> structures;  // in the order of the file, apart from each other

  uint64_t entry_offset(uint64_t index) const { return bat_offset + index * sizeof(le64); }
  // What the file must have of the entry's block. Old QEMU cut the disk's last block off where the
  // disk ends, and put the next block behind it.
  uint64_t block_length(uint64_t index) const {
    return bat.is_bitmap_index(index) ? sector_bitmap_bytes : bat.data_bytes(bat.block_of(index));
  }
};

// Errors: corrupt where the BAT region has no room for all entries of the disk.
Result<ImageLayout> layout_of(const FileHeader& header, const RegionTable& regions,
                              const Metadata& metadata, uint64_t file_bytes);

// A BAT entry that cannot be followed.
struct EntryFault {
  enum class Kind {
    reserved_bits,  // 3 to 19
    state,          // reserved, or not one for this kind of disk or block
    in_structure,   // upon something that is no block
    past_end,       // of the file
  };
  Kind kind;
  std::string message;  // "puts the block upon the BAT region (0x300000 to 0x400000)"
};

// Nothing where the entry may be followed, by itself. [MS-VHDX] 2.5.1.
std::optional<EntryFault> entry_fault(const ImageLayout& layout, uint64_t index, uint64_t entry);

// Whether the state has a place in the file: fully or partially present.
constexpr bool is_allocated(uint64_t entry) {
  const uint64_t state = bat_state_of(entry);
  return state == uint64_t(BlockState::fully_present) ||
         state == uint64_t(BlockState::partially_present);
}

// An undefined or unmapped block may name the place that it had, which is nobody else's then.
// [MS-VHDX] 2.5.1 and 2.5.1.1.
constexpr bool is_undefined(uint64_t entry) {
  const uint64_t state = bat_state_of(entry);
  return state == uint64_t(BlockState::undefined) || state == uint64_t(BlockState::unmapped);
}
constexpr bool keeps_place(uint64_t entry) {
  return is_undefined(entry) && bat_file_offset_of(entry) != 0;
}

// "payload block 17 (BAT entry 17) at offset 0x200088: 0x300006"
std::string entry_text(const ImageLayout& layout, uint64_t index, uint64_t entry);

// The places of the allocated blocks, kept until they are compared. Takes at most as many as fit
// into the file apart from each other, so its memory is bounded by the file.
class BlockPlaces {
 public:
  struct Place {
    uint64_t file_offset;
    uint64_t index;  // of the BAT entry
  };

  explicit BlockPlaces(uint64_t file_bytes)
      : file_bytes_(file_bytes), capacity_(file_bytes / alignment_bytes + 1) {}

  // False: no more blocks fit into the file, so those here overlap already.
  bool add(uint64_t file_offset, uint64_t index);

  // In the order of the file, then of the BAT.
  const std::vector<Place>& sorted();

  // What an undefined or unmapped block keeps, compared with nothing.
  void add_kept(uint64_t file_offset) {
    has_kept_ = true;
    if (file_offset < file_bytes_) last_kept_ = std::max(last_kept_, file_offset);
  }
  bool has_kept() const { return has_kept_; }
  // Of those inside the file; 0: there is none.
  uint64_t last_kept() const { return last_kept_; }

 private:
  uint64_t file_bytes_;
  uint64_t capacity_;
  bool has_kept_ = false;
  uint64_t last_kept_ = 0;
  std::vector<Place> places_;
};

}  // namespace vhdkit::vhdx
