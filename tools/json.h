// JSON with fields in the order in which they were added.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "disk/description.h"

namespace vhdkit::tools {

using Json = nlohmann::ordered_json;

// Amounts of bytes become plain integers.
Json to_json(const disk::Description& description);

// Indented, with a newline. Bytes that are no UTF-8 (names of files) become U+FFFD.
std::string json_text(const Json& json);

// Of what others wrote: null, or nothing, where object is none, or the member is missing or is
// something else.
const Json& member(const Json& object, const char* key);
std::optional<uint64_t> number_in(const Json& object, const char* key);

// Bytes that are no UTF-8 become U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace vhdkit::tools
