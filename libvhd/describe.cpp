#include "libvhd/describe.h"

#include <fmt/format.h>

#include "libvhd/dynamic_layer.h"

namespace vhdkit::libvhd {
namespace {

using disk::Bytes;
using disk::Description;

std::string version_text(uint32_t version) {
  return fmt::format("{}.{}", version >> 16, version & 0xffff);
}

std::string place_text(FooterPlace place) {
  switch (place) {
    case FooterPlace::tail:
      return "tail";
    case FooterPlace::short_tail:
      return "tail, 511 bytes";
    case FooterPlace::head:
      return "head";
  }
  return {};
}

std::string copy_text(FooterCopy copy) {
  switch (copy) {
    case FooterCopy::none:
      return "-";
    case FooterCopy::equal:
      return "equal";
    case FooterCopy::different:
      return "different";
    case FooterCopy::missing:
      return "missing";
  }
  return {};
}

std::vector<std::string> locator_texts(const std::vector<LocatedParent>& located) {
  std::vector<std::string> texts;
  for (const LocatedParent& one : located)
    texts.push_back(code_text(one.locator.platform_code) + ": " +
                    (one.path ? one.path->path : "damaged: " + one.damage));
  return texts;
}

}  // namespace

Description describe_footer(const FoundFooter& found) {
  const HardDiskFooter& footer = found.footer;
  const bool by_geometry = footer.size_rule() == SizeRule::geometry;
  Description text;
  text.add("type", disk_type_name(uint32_t(footer.type)));
  text.add("format-version", version_text(footer.file_format_version));
  text.add("creator-application", code_text(footer.creator_application));
  text.add("creator-version", version_text(footer.creator_version));
  text.add("creator-host-os", code_text(footer.creator_host_os));
  text.add("unique-id", footer.unique_id.to_string());
  text.add("time-stamp", time_stamp_text(footer.time_stamp));
  text.add("original-size", Bytes{footer.original_size_bytes});
  text.add("current-size", Bytes{footer.current_size_bytes});
  text.add("geometry", fmt::format("{}/{}/{}", footer.geometry.cylinders, footer.geometry.heads,
                                   footer.geometry.sectors_per_track));
  text.add("geometry-size", Bytes{footer.geometry.size_bytes()});
  text.add("size-from", std::string(by_geometry ? "geometry" : "current-size"));
  text.add("temporary", (footer.features & features_temporary) != 0);
  text.add("saved-state", footer.saved_state != 0);
  text.add("footer-at", place_text(found.place));
  text.add("footer-copy", copy_text(found.copy));
  return text;
}

void describe_header(const DynamicImage& image, Description& text) {
  const DynamicDiskHeader& header = image.header;
  text.add("header-offset", image.found.footer.data_offset);
  text.add("block-size", Bytes{header.block_size_bytes});
  text.add("table-offset", header.table_offset);
  text.add("max-table-entries", uint64_t{header.max_table_entries});
  if (image.found.footer.type != DiskType::differencing) return;
  text.add("parent-unique-id", header.parent_unique_id.to_string());
  text.add("parent-time-stamp", time_stamp_text(header.parent_time_stamp));
  text.add("parent-name", header.parent_name);
  text.add("parent-locators", locator_texts(image.located));
}

void describe_warnings(const FoundFooter& found, const std::vector<LocatedParent>& located,
                       Description& text) {
  std::vector<std::string> warnings;
  if (found.place == FooterPlace::head)
    warnings.push_back("the footer at the tail is damaged, its copy at the head is used: " +
                       found.tail_damage);
  if (found.copy == FooterCopy::different)
    warnings.push_back("the copy of the footer at offset 0 differs from the one at the tail");
  if (found.copy == FooterCopy::missing)
    warnings.push_back("the copy of the footer at offset 0 is missing");
  for (const LocatedParent& one : located)
    if (!one.path)
      warnings.push_back(fmt::format("parent locator {}: {}", one.locator.index, one.damage));
  if (!warnings.empty()) text.add("warnings", std::move(warnings));
}

}  // namespace vhdkit::libvhd
