// What a running machine says on its control socket, for people.
#pragma once

#include <string>

#include "tools/json.h"

namespace vhdkit::tools {

// Results of the commands of these names. A member that is missing, or is something else than it
// should be, is left out.
std::string status_text(const Json& status);
std::string counters_text(const Json& counters);
std::string added_disk_text(const Json& added);
std::string resized_disk_text(const Json& resized);
std::string snapshots_text(const Json& snapshots);

}  // namespace vhdkit::tools
