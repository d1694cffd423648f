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

}  // namespace vhdkit::tools
