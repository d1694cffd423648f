#include "libvhd/parent_locator.h"

#include <fmt/format.h>

#include <algorithm>

#include "libvhd/footer.h"
#include "support/utf16.h"

namespace vhdkit::libvhd {
namespace {

using disk::ParentPath;
using disk::PathKind;

// What is not valid UTF-8 becomes U+FFFD; the text ends at its first zero.
std::string clean_text(std::span<const std::byte> data) {
  const std::string text(reinterpret_cast<const char*>(data.data()), data.size());
  return utf16_to_utf8(utf8_to_utf16(text, ByteOrder::little), ByteOrder::little);
}

PathKind kind_of(uint32_t platform_code) {
  switch (platform_code) {
    case platform_w2ru:
    case platform_wi2r:
      return PathKind::relative;
    case platform_w2ku:
    case platform_wi2k:
      return PathKind::absolute;
    default:
      return PathKind::other;
  }
}

// In the order of trying, then of the header.
std::pair<int, uint32_t> rank_of(const LocatedParent& located) {
  constexpr uint32_t order[] = {platform_w2ru, platform_w2ku, platform_wi2r, platform_wi2k};
  const auto found = std::ranges::find(order, located.locator.platform_code);
  return {int(found - std::begin(order)), located.locator.index};
}

// The name is a plain file name from most writers and a whole path in snapshots (.avhd).
PathKind kind_of_name(std::string_view name) {
  const bool has_drive = name.size() > 2 && name[1] == ':' && name[2] == '\\';
  return has_drive || name.starts_with("\\\\") ? PathKind::absolute : PathKind::relative;
}

}  // namespace

std::string locator_damage(const ParentLocator& locator, uint64_t content_end) {
  if (locator.data_length_bytes == 0) return "platform data length is 0";
  if (locator.data_length_bytes > max_locator_bytes)
    return fmt::format("platform data length {:#x} is above {:#x}", locator.data_length_bytes,
                       max_locator_bytes);
  if (locator.data_offset < sizeof(Footer))
    return fmt::format("platform data offset {:#x} lies in the copy of the footer",
                       locator.data_offset);
  if (!range_fits(locator.data_offset, locator.data_length_bytes, content_end))
    return fmt::format("platform data [{:#x}, +{:#x}) runs past the end of the content ({:#x})",
                       locator.data_offset, locator.data_length_bytes, content_end);
  return {};
}

uint64_t locator_room_bytes(const ParentLocator& locator) {
  const uint64_t space = locator.data_space;
  return space < sector_bytes ? space * sector_bytes : space;
}

std::string decode_locator(uint32_t platform_code, std::span<const std::byte> data) {
  switch (platform_code) {
    case platform_w2ru:
    case platform_w2ku:
      return utf16_to_utf8(data, ByteOrder::little);
    case platform_mac:
      return fmt::format("(Mac OS alias of {} bytes)", data.size());
    default:
      return clean_text(data);
  }
}

Async<std::vector<LocatedParent>> read_parent_locators(File& file, const DynamicDiskHeader& header,
                                                       uint64_t content_end) {
  std::vector<LocatedParent> all;
  for (const ParentLocator& locator : header.parent_locators) {
    LocatedParent located;
    located.locator = locator;
    located.damage = locator_damage(locator, content_end);
    if (located.damage.empty()) {
      std::vector<std::byte> data(locator.data_length_bytes);
      const std::span<std::byte> buffer(data);
      CO_TRY(co_await file.read(locator.data_offset, buffer));
      std::string text = decode_locator(locator.platform_code, data);
      if (text.empty()) {
        located.damage = fmt::format("no text at offset {:#x}", locator.data_offset);
      } else {
        located.path = ParentPath{.kind = kind_of(locator.platform_code),
                                  .locator = code_text(locator.platform_code),
                                  .path = std::move(text)};
      }
    }
    all.push_back(std::move(located));
  }
  std::ranges::sort(all, {}, rank_of);
  co_return all;
}

disk::ParentReference parent_reference(const DynamicDiskHeader& header,
                                       const std::vector<LocatedParent>& located) {
  disk::ParentReference parent;
  parent.identities = {header.parent_unique_id};
  parent.time_stamp = header.parent_time_stamp;
  parent.name = header.parent_name;
  for (const LocatedParent& one : located)
    if (one.path) parent.paths.push_back(*one.path);
  if (!header.parent_name.empty())
    parent.paths.push_back({.kind = kind_of_name(header.parent_name),
                            .locator = "parent-name",
                            .path = header.parent_name});
  return parent;
}

}  // namespace vhdkit::libvhd
