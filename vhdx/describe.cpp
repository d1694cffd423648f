#include "vhdx/describe.h"

#include <fmt/format.h>

namespace vhdkit::vhdx {
namespace {

using disk::Bytes;
using disk::Description;

std::string type_name(const Metadata& metadata) {
  if (metadata.has_parent) return "differencing";
  return metadata.is_fixed() ? "fixed" : "dynamic";
}

void describe_log(const OpenedImage& image, Description& text) {
  const FileHeader& header = image.headers.current;
  text.add("log-state", std::string(header.log_is_empty() ? "clean" : "dirty"));
  if (!header.log_is_empty())
    text.add("log-replay", std::string(image.log_was_ignored ? "ignored" : "in memory"));
  text.add("log-offset", header.log_offset);
  text.add("log-size", Bytes{header.log_length});
}

void describe_regions(const RegionTable& regions, Description& text) {
  text.add("bat-offset", regions.bat.file_offset);
  text.add("bat-size", Bytes{regions.bat.length});
  text.add("metadata-offset", regions.metadata.file_offset);
  text.add("metadata-size", Bytes{regions.metadata.length});
}

// "relative_path: ..\parent.vhdx", in the order of the file.
void describe_parent(const ParentLocator& locator, Description& text) {
  std::vector<std::string> texts;
  for (const auto& [key, value] : locator.entries) {
    if (key == key_linkage) {
      text.add("parent-linkage", value);
    } else if (key == key_linkage2) {
      text.add("parent-linkage2", value);
    } else {
      texts.push_back(key + ": " + value);
    }
  }
  text.add("parent-locators", std::move(texts));
}

void describe_unknown(const OpenedImage& image, Description& text) {
  std::vector<std::string> regions;
  for (const Region& region : image.regions.unknown) regions.push_back(region.guid.to_string());
  if (!regions.empty()) text.add("unknown-regions", std::move(regions));
  std::vector<std::string> items;
  for (const MetadataItem& item : image.metadata.unknown) items.push_back(item.id.to_string());
  if (!items.empty()) text.add("unknown-metadata-items", std::move(items));
}

void describe_warnings(const OpenedImage& image, Description& text) {
  std::vector<std::string> warnings;
  if (image.log_was_ignored)
    warnings.push_back("the log is not empty and was ignored: the content may be stale or torn");
  for (size_t i = 0; i < 2; ++i)
    if (const std::string& damage = image.headers.damage[i]; !damage.empty())
      warnings.push_back(
          fmt::format("header {} at offset {:#x}: {}", i + 1, header_offsets[i], damage));
  for (size_t i = 0; i < 2; ++i)
    if (const std::string& damage = image.regions.damage[i]; !damage.empty())
      warnings.push_back(fmt::format("region table {} at offset {:#x}: {}", i + 1,
                                     region_table_offsets[i], damage));
  if (!warnings.empty()) text.add("warnings", std::move(warnings));
}

}  // namespace

Description describe(const OpenedImage& image) {
  const Metadata& metadata = image.metadata;
  Description text;
  text.add("type", type_name(metadata));
  text.add("block-size", Bytes{metadata.block_size_bytes});
  text.add("logical-sector-size", uint64_t{metadata.logical_sector_bytes});
  text.add("physical-sector-size", uint64_t{metadata.physical_sector_bytes});
  text.add("disk-id", metadata.disk_id.to_string());
  text.add("data-write-guid", image.headers.current.data_write_guid.to_string());
  text.add("file-write-guid", image.headers.current.file_write_guid.to_string());
  describe_log(image, text);
  describe_regions(image.regions, text);
  text.add("creator", image.headers.creator);
  if (metadata.parent_locator) describe_parent(*metadata.parent_locator, text);
  describe_unknown(image, text);
  describe_warnings(image, text);
  return text;
}

}  // namespace vhdkit::vhdx
