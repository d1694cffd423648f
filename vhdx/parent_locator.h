// The parent locator: key-value pairs that say which file a differencing disk's parent is.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "disk/parent_reference.h"
#include "support/result.h"
#include "vhdx/format.h"

namespace vhdkit::vhdx {

// [MS-VHDX] 2.6.2.6.3; keys are case sensitive.
inline constexpr const char* key_linkage = "parent_linkage";
inline constexpr const char* key_linkage2 = "parent_linkage2";
inline constexpr const char* key_relative_path = "relative_path";
inline constexpr const char* key_volume_path = "volume_path";
inline constexpr const char* key_absolute_path = "absolute_win32_path";
// Our own: the DataWriteGuids, with blanks between them, of the images that were between this one
// and its parent and were merged into that, by a merge that took this image's content along and was
// not finished.
inline constexpr const char* key_merged = "vhdkit_merged";

// A locator of VHDX's type, UTF-8, in the order of the file; keys that nobody here knows too.
struct ParentLocator {
  std::vector<std::pair<std::string, std::string>> entries;

  // Null where there is no such key.
  const std::string* find(std::string_view key) const;
};

// item: the whole metadata item. where: begins messages. [MS-VHDX] 2.6.2.6.
// Errors: corrupt (an entry outside the item, an empty key, a key that is twice there, a NUL inside
// a string, a linkage that is no GUID or missing); unsupported (another type, by its GUID).
Result<ParentLocator> parse_parent_locator(std::span<const std::byte> item, std::string_view where);
std::vector<std::byte> build_parent_locator(const ParentLocator& locator);

// linkage and linkage2 (in either case, with or without braces) as identities; merged, those that
// are GUIDs; paths in the order relative, volume, absolute.
disk::ParentReference parent_reference(const ParentLocator& locator);

}  // namespace vhdkit::vhdx
