#include "vhdx/create.h"

#include <fmt/format.h>

#include "support/utf16.h"
#include "vhdx/image_writer.h"

namespace vhdkit::vhdx {
namespace {

template <class... Args>
std::unexpected<Error> refuse(fmt::format_string<Args...> text, Args&&... args) {
  return fail(Errc::invalid_argument, fmt::format(text, std::forward<Args>(args)...));
}

Result<void> check_type(DiskType type) {
  if (type == DiskType::fixed || type == DiskType::dynamic || type == DiskType::differencing)
    return {};
  return refuse("disk type {}: it must be fixed, dynamic or differencing", int(type));
}

Result<void> check_sectors(const CreateOptions& options) {
  const uint32_t logical = options.logical_sector_bytes;
  const uint32_t physical = options.physical_sector_bytes;
  if (logical != 512 && logical != 4096)
    return refuse("logical sector size {}: it must be 512 or 4096", logical);
  if (physical != 512 && physical != 4096)
    return refuse("physical sector size {}: it must be 512 or 4096", physical);
  if (physical < logical)
    return refuse("physical sector size {}: it must be at least the logical, {}", physical,
                  logical);
  return {};
}

Result<void> check_size(const CreateOptions& options) {
  const uint64_t size = options.size_bytes;
  const uint32_t unit = options.logical_sector_bytes;
  if (size == 0 || size > max_disk_bytes || !is_aligned(size, unit))
    return refuse(
        "size {} of a VHDX: it must be a multiple of the logical sector size from {} to "
        "{} (64 TiB)",
        size, unit, max_disk_bytes);
  return {};
}

Result<void> check_block_size(uint32_t bytes) {
  if (!is_power_of_two(bytes) || bytes < min_block_bytes || bytes > max_block_bytes)
    return refuse("block size {}: it must be a power of two from {} to {}", bytes, min_block_bytes,
                  max_block_bytes);
  return {};
}

// [MS-VHDX] 2.6.2.6.3: as an extended-length path, "\\?\D:\…" or "\\?\UNC\server\share\…". Nothing
// where the path is not absolute.
std::optional<std::string> extended_length_path(const std::string& path) {
  const std::string_view view = path;
  const bool has_drive = view.size() >= 3 && view.substr(1, 2) == ":\\" &&
                         ((view[0] | 0x20) >= 'a' && (view[0] | 0x20) <= 'z');
  if (view.contains('/')) return std::nullopt;
  if (has_drive) return R"(\\?\)" + path;
  if (view.starts_with(R"(\\?\)")) return path;
  if (view.starts_with(R"(\??\)")) return R"(\\?\)" + path.substr(4);
  if (view.starts_with(R"(\\)")) return R"(\\?\UNC\)" + path.substr(2);
  return std::nullopt;
}

bool names_volume(std::string_view extended) { return extended.starts_with(R"(\\?\Volume{)"); }

Result<void> check_stored_path(std::string_view path) {
  if (path.contains('\0')) return refuse("the parent's path has a NUL inside");
  const size_t bytes = utf8_to_utf16(path, ByteOrder::little).size();
  if (bytes > UINT16_MAX)
    return refuse("the parent's path has {} UTF-16 units: a VHDX takes at most {}", bytes / 2,
                  UINT16_MAX / 2);
  return {};
}

Result<std::optional<ParentLocator>> parent_locator(const CreateOptions& options) {
  const bool is_differencing = options.type == DiskType::differencing;
  if (is_differencing != options.parent.has_value())
    return refuse("{}", is_differencing ? "a differencing VHDX needs a parent"
                                        : "only a differencing VHDX has a parent");
  if (!is_differencing) return std::nullopt;
  return locator_for(*options.parent);
}

}  // namespace

Result<ParentLocator> locator_for(const ParentLink& parent) {
  // "{83ed0ec3-…}": lower case in braces.
  const auto linkage_text = [](const Guid& guid) { return '{' + guid.to_string() + '}'; };
  ParentLocator locator{.entries = {{key_linkage, linkage_text(parent.data_write_guid)}}};
  if (parent.other_data_write_guid)
    locator.entries.emplace_back(key_linkage2, linkage_text(*parent.other_data_write_guid));
  std::string merged;
  for (const Guid& guid : parent.merged_data_write_guids)
    merged += (merged.empty() ? "" : " ") + linkage_text(guid);
  if (!merged.empty()) locator.entries.emplace_back(key_merged, merged);
  if (!parent.relative_path.empty())
    locator.entries.emplace_back(key_relative_path, parent.relative_path);
  if (!parent.absolute_path.empty()) {
    const auto extended = extended_length_path(parent.absolute_path);
    if (!extended)
      return refuse(
          "absolute path \"{}\" of the parent: it must begin with a drive (D:\\), "
          "\\\\server\\share or \\\\?\\ and have backslashes only",
          parent.absolute_path);
    locator.entries.emplace_back(names_volume(*extended) ? key_volume_path : key_absolute_path,
                                 *extended);
  }
  if (parent.relative_path.empty() && parent.absolute_path.empty())
    return refuse("a differencing VHDX needs its parent's path");
  for (const auto& [key, value] : locator.entries) TRY(check_stored_path(value));
  return locator;
}

Result<std::unique_ptr<disk::BulkWriter>> create(File& file, const CreateOptions& options) {
  TRY(check_type(options.type));
  TRY(check_sectors(options));
  TRY(check_size(options));
  TRY(check_block_size(options.block_size_bytes));
  TRY_LET(std::optional<ParentLocator> locator, parent_locator(options));
  Metadata metadata{.block_size_bytes = options.block_size_bytes,
                    .leave_blocks_allocated = options.type == DiskType::fixed,
                    .has_parent = options.type == DiskType::differencing,
                    .disk_size_bytes = options.size_bytes,
                    .disk_id = options.disk_id,
                    .logical_sector_bytes = options.logical_sector_bytes,
                    .physical_sector_bytes = options.physical_sector_bytes,
                    .parent_locator = std::move(locator),
                    .unknown = {}};
  return std::make_unique<ImageWriter>(file, std::move(metadata), options.data_write_guid);
}

}  // namespace vhdkit::vhdx
