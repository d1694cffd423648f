// What an image says of itself, in order, for people and programs alike: one source for both
// outputs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace vhdkit::disk {

// An amount of bytes: printed "10 GiB (10737418240 bytes)", a plain integer in JSON.
struct Bytes {
  uint64_t value;
};

class Description {
 public:
  using Value = std::variant<bool, uint64_t, Bytes, std::string, std::vector<std::string>,
                             std::vector<Description>>;
  struct Field {
    std::string key;  // lower case with dashes, as in JSON: "data-write-guid"
    Value value;
  };

  void add(std::string key, Value value) { fields_.push_back({std::move(key), std::move(value)}); }
  const std::vector<Field>& fields() const { return fields_; }
  // The text of the field; empty where there is none, or where it is no text.
  std::string text(std::string_view key) const {
    for (const Field& field : fields_)
      if (const auto* text = std::get_if<std::string>(&field.value); text && field.key == key)
        return *text;
    return "";
  }

 private:
  std::vector<Field> fields_;
};

}  // namespace vhdkit::disk
