// Windows paths on this system: their components, and what a --map makes of them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "image/image.h"

namespace vhdkit::image {

// The components of a Windows path: separators are \ and /, a leading \\?\, \\.\ or \??\ is taken
// off, "." and empty components too, and ".." takes its predecessor with it, but never the first
// component. A UNC path's first component is "\\SERVER", so that no folder is taken for a server.
std::vector<std::string> windows_components(std::string_view path);

// Whether the path says where it begins: a drive letter, a server, a \\?\ path.
bool is_absolute_windows_path(std::string_view path);

// The path on this system: the mapping with the most components that path begins with decides.
// Nothing where none fits. Letters A to Z are compared without regard to case.
std::optional<std::string> map_windows_path(std::string_view path,
                                            std::span<const PathMapping> mappings);

}  // namespace vhdkit::image
