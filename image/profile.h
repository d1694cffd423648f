// What other programs accept: rules with their source, for create, convert and check.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "disk/finding.h"
#include "image/format.h"

namespace vhdkit::image {

struct CreateOptions;

enum class Profile { azure, hyperv, qemu, wsl, virtualbox, xcp };

std::optional<Profile> parse_profile(std::string_view name);
std::string_view profile_name(Profile profile);
// "azure, hyperv, …" for help texts and errors.
std::string_view profile_names();

// What a profile looks at in a finished image.
struct ImageFacts {
  Format format;
  Subformat subformat;
  uint64_t disk_bytes;
  uint64_t file_bytes;
  uint64_t block_bytes;  // 0: none
  uint32_t logical_sector_bytes;
  uint32_t physical_sector_bytes;
  bool log_is_dirty;                // VHDX
  bool has_file_holes;              // the file itself is sparse
  uint64_t parent_bytes = 0;        // of the parent's disk; 0: none, or none was found
  std::string creator_host_os;      // VHD: "Wi2k"; empty otherwise
  std::string creator_application;  // VHD: "win ", "qem2", …; empty otherwise
  std::string file_name;
};

// Each rule that the image breaks, with its source in the message. Severity: corruption where the
// program refuses the image, warning where it works worse.
void check_profile(Profile profile, const ImageFacts& facts, disk::Findings& findings);

// A disk for the profile has a multiple of this many bytes: whoever makes one from a source of
// another size rounds it up.
uint64_t disk_size_unit_bytes(Profile profile);

// Sets what the caller left open to what the profile wants. Contradictions are found by settle().
void apply_profile(Profile profile, CreateOptions& options);

}  // namespace vhdkit::image
