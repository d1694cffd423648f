// The formats of images, and their names on the command line.
#pragma once

#include <optional>
#include <string_view>

namespace vhdkit::image {

enum class Format { raw, vhd, vhdx, qcow2 };
enum class Subformat { fixed, dynamic, differencing };

// "vpc" is qemu-img's name for vhd.
std::optional<Format> parse_format(std::string_view name);
std::string_view format_name(Format format);

std::optional<Subformat> parse_subformat(std::string_view name);
std::string_view subformat_name(Subformat subformat);

}  // namespace vhdkit::image
