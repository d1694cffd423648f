// Extents as text, so that a test shows what it expects.
#pragma once

#include <sstream>
#include <string>

#include "disk/extent.h"

namespace vhdkit::tests {

// "data 0+0x200@0x1000, zero 0x200+0x600"
inline std::string text_of(const disk::ExtentList& extents) {
  constexpr const char* names[] = {"data", "zero", "parent", "encoded"};
  std::ostringstream text;
  text << std::hex << std::showbase;
  for (const disk::Extent& extent : extents) {
    text << (text.tellp() > 0 ? ", " : "") << names[int(extent.kind)] << ' ' << extent.disk_offset
         << '+' << extent.length;
    if (extent.kind == disk::ExtentKind::data) text << '@' << extent.file_offset;
  }
  return text.str();
}

}  // namespace vhdkit::tests
