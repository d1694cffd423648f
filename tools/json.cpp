#include "tools/json.h"

namespace vhdkit::tools {
namespace {

struct ValueMaker {
  Json operator()(disk::Bytes value) const { return value.value; }
  Json operator()(const std::vector<disk::Description>& values) const {
    Json array = Json::array();
    for (const disk::Description& value : values) array.push_back(to_json(value));
    return array;
  }
  template <class T>
  Json operator()(const T& value) const {
    return value;
  }
};

}  // namespace

Json to_json(const disk::Description& description) {
  Json object = Json::object();
  for (const disk::Description::Field& field : description.fields())
    object[field.key] = std::visit(ValueMaker(), field.value);
  return object;
}

std::string json_text(const Json& json) {
  return json.dump(4, ' ', false, Json::error_handler_t::replace) + "\n";
}

const Json& member(const Json& object, const char* key) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? nothing : *found;
}

std::optional<uint64_t> number_in(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_number_unsigned() ? std::optional(value.get<uint64_t>()) : std::nullopt;
}

// JSON's writer replaces, and its reader takes what was replaced.
std::string valid_utf8(std::string_view text) {
  const std::string written = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(written, nullptr, false).get<std::string>();
}

}  // namespace vhdkit::tools
