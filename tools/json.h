// JSON with fields in the order in which they were added.
#pragma once

#include <nlohmann/json.hpp>

#include "disk/description.h"

namespace vhdkit::tools {

using Json = nlohmann::ordered_json;

// Amounts of bytes become plain integers.
Json to_json(const disk::Description& description);

// Indented, with a newline. Bytes that are no UTF-8 (names of files) become U+FFFD.
std::string json_text(const Json& json);

}  // namespace vhdkit::tools
