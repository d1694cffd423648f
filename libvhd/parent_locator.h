// The parent locators' data: where a differencing image says its parent is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "disk/parent_reference.h"
#include "libvhd/dynamic_header.h"

namespace vhdkit::libvhd {

inline constexpr uint32_t max_locator_bytes = 64 * KiB;  // longer than any path of Windows

// One locator with its path, or with what is wrong with it.
struct LocatedParent {
  ParentLocator locator;
  std::optional<disk::ParentPath> path;
  std::string damage;  // a clause for people; empty where path is set
};

// What keeps the locator's data from being read; empty where nothing does. content_end: where the
// footer at the tail begins.
std::string locator_damage(const ParentLocator& locator, uint64_t content_end);

// The room for the locator's data, bytes. The specification counts sectors, Windows stores bytes;
// a number below 512 can only be sectors.
uint64_t locator_room_bytes(const ParentLocator& locator);

// The path in the locator's data, UTF-8; empty where it holds no text.
std::string decode_locator(uint32_t platform_code, std::span<const std::byte> data);

// All locators of the header, in the order in which they are to be tried: W2ru, W2ku, Wi2r, Wi2k,
// then those that nobody follows. Errors: io.
Async<std::vector<LocatedParent>> read_parent_locators(File& file, const DynamicDiskHeader& header,
                                                       uint64_t content_end);

// The header and its locators as the parent's description; the parent name comes last of the paths.
disk::ParentReference parent_reference(const DynamicDiskHeader& header,
                                       const std::vector<LocatedParent>& located);

}  // namespace vhdkit::libvhd
