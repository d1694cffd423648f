// The parts of a check, in the order in which they run; each goes as far as the one before allows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "async/file.h"
#include "disk/finding.h"
#include "libvhd/block_layout.h"
#include "libvhd/footer.h"

namespace vhdkit::libvhd {

// Adds the findings of one structure.
class Subject {
 public:
  Subject(disk::Findings& findings, std::string structure, uint64_t file_offset)
      : findings_(findings), structure_(std::move(structure)), file_offset_(file_offset) {}

  // field_offset: bytes from the structure's beginning. The message follows the structure's name.
  void add(disk::Severity severity, std::string code, std::string field, uint64_t field_offset,
           std::string value, const std::string& message) {
    findings_.add({.severity = severity,
                   .code = std::move(code),
                   .structure = structure_,
                   .field = std::move(field),
                   .file_offset = file_offset_ + field_offset,
                   .value = std::move(value),
                   .message = structure_ + ": " + message});
  }

 private:
  disk::Findings& findings_;
  std::string structure_;
  uint64_t file_offset_;
};

// The footer to go on with, valid or not.
struct FooterToCheck {
  HardDiskFooter footer;
  uint64_t content_end = 0;  // bytes: where the footer at the tail begins, else the file's end
};

// The footer and its copy. Nothing where neither tells a disk.
Async<std::optional<FooterToCheck>> check_footers(File& file, disk::Findings& findings);

// The Dynamic Disk Header. Nothing where it tells no BAT.
Async<std::optional<DynamicDiskHeader>> check_header(File& file, const FooterToCheck& footer,
                                                     disk::Findings& findings);

// What a differencing image says of its parent. header_offset: bytes, where the header lies.
void check_parent(const BlockLayout& layout, uint64_t header_offset,
                  const DynamicDiskHeader& header, const std::vector<LocatedParent>& located,
                  disk::Findings& findings);

// The BAT, the blocks' places and bitmaps, and the space between all structures. type: dynamic or
// differencing. usage.image_end_offset becomes the end of the last block or structure.
Async<void> check_blocks(File& file, const BlockLayout& layout, DiskType type,
                         disk::Findings& findings, disk::BlockUsage& usage);

// "0x200"
std::string hex(uint64_t value);

}  // namespace vhdkit::libvhd
