// Where the parent of a differencing image may lie on this system.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "disk/parent_reference.h"
#include "image/image.h"

namespace vhdkit::image {

// Every path worth a look, best first, none twice: relative paths beside the child; then the file
// name of each Windows path in the child's folder; then absolute and volume paths through the
// mappings. Native paths (qcow2) are taken as this system understands them. A child that is a
// symbolic link lies in two folders: the link's, then its target's.
//
// A Windows path is never read as an absolute path of this system, and nothing is opened here:
// whoever opens a candidate lets it prove itself by its identifier.
std::vector<std::string> parent_candidates(const std::string& child_path,
                                           const disk::ParentReference& reference,
                                           std::span<const PathMapping> mappings);

// Folders of an image, "" is the current one: its link's, where it is a symbolic link, then that of
// the file that this leads to.
std::vector<std::string> folders_of(const std::string& image_path);

// Whether an image with this identity is the parent that the child names.
bool names(const disk::ParentReference& reference, const std::optional<Guid>& identity);

}  // namespace vhdkit::image
