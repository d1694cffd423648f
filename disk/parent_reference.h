// What a differencing image says of its parent, before anybody looked for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "support/guid.h"

namespace vhdkit::disk {

enum class PathKind {
  relative,  // to the child's folder, with backslashes
  absolute,  // a Windows path: drive letter, \\?\ or UNC
  volume,    // \\?\Volume{GUID}\…
  native,    // a path of this system, as qcow2 has them
  other,     // kept for people to read, never followed (Mac alias, file URL)
};

struct ParentPath {
  PathKind kind;
  std::string locator;  // the format's name for it: "relative_path", "W2ru"
  std::string path;     // UTF-8, as stored
};

struct ParentReference {
  // The parent is the right one if its identity() is one of these; empty: the format has no
  // identifiers.
  std::vector<Guid> identities;
  // The parent's time stamp when the child was made; a difference is worth a warning only.
  std::optional<uint32_t> time_stamp;
  std::string name;  // the parent's display name; may be empty
  // The parent's format where the child says it, by its name on the command line ("raw", "qcow2");
  // empty: it is found by content. A guest that writes a header into a raw parent must not change
  // it.
  std::string format;
  // Images that have been merged into the parent, as they were between it and this one: by a merge
  // that took this image's content along and was not finished.
  std::vector<Guid> merged;
  std::vector<ParentPath> paths;  // in the order in which the format says to try them
};

}  // namespace vhdkit::disk
