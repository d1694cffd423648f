#include "image/format.h"

#include <utility>

namespace vhdkit::image {
namespace {

using namespace std::string_view_literals;

// The first name of a value is the one that is printed.
constexpr std::pair<std::string_view, Format> formats[] = {
    {"raw"sv, Format::raw},   {"vhd"sv, Format::vhd},     {"vpc"sv, Format::vhd},
    {"vhdx"sv, Format::vhdx}, {"qcow2"sv, Format::qcow2},
};
constexpr std::pair<std::string_view, Subformat> subformats[] = {
    {"fixed"sv, Subformat::fixed},
    {"dynamic"sv, Subformat::dynamic},
    {"differencing"sv, Subformat::differencing},
};

template <class T, size_t N>
std::optional<T> value_of(const std::pair<std::string_view, T> (&table)[N], std::string_view name) {
  for (const auto& [key, value] : table)
    if (key == name) return value;
  return std::nullopt;
}

template <class T, size_t N>
std::string_view name_of(const std::pair<std::string_view, T> (&table)[N], T wanted) {
  for (const auto& [key, value] : table)
    if (value == wanted) return key;
  __builtin_unreachable();
}

}  // namespace

std::optional<Format> parse_format(std::string_view name) { return value_of(formats, name); }
std::string_view format_name(Format format) { return name_of(formats, format); }

std::optional<Subformat> parse_subformat(std::string_view name) {
  return value_of(subformats, name);
}
std::string_view subformat_name(Subformat subformat) { return name_of(subformats, subformat); }

}  // namespace vhdkit::image
