#include "libvhd/create.h"

#include <fmt/format.h>

#include "libvhd/dynamic_writer.h"
#include "libvhd/fixed_writer.h"
#include "libvhd/parent_locator.h"

namespace vhdkit::libvhd {
namespace {

HardDiskFooter footer_for(const CreateOptions& options) {
  HardDiskFooter footer;
  footer.type = options.type;
  footer.data_offset = options.type == DiskType::fixed ? no_offset : sizeof(Footer);
  footer.time_stamp = options.time_stamp;
  footer.original_size_bytes = options.size_bytes;
  footer.current_size_bytes = options.size_bytes;
  footer.geometry = chs_of_size(options.size_bytes);
  footer.unique_id = options.unique_id;
  return footer;
}

Result<void> check_size(const CreateOptions& options) {
  const bool is_fixed = options.type == DiskType::fixed;
  const uint64_t most = is_fixed ? max_fixed_bytes : max_dynamic_bytes;
  if (options.size_bytes == 0 || options.size_bytes > most ||
      !is_aligned(options.size_bytes, sector_bytes))
    return fail(Errc::invalid_argument,
                fmt::format("size {} of a {} VHD: it must be a multiple of {} from {} to {}",
                            options.size_bytes, disk_type_name(uint32_t(options.type)),
                            sector_bytes, sector_bytes, most));
  return {};
}

Result<void> check_block_size(const CreateOptions& options) {
  if (options.type == DiskType::fixed) return {};
  if (!is_power_of_two(options.block_size_bytes) || options.block_size_bytes < min_block_bytes)
    return fail(Errc::invalid_argument,
                fmt::format("block size {}: it must be a power of two from {}",
                            options.block_size_bytes, min_block_bytes));
  return {};
}

Result<void> check_parent(const CreateOptions& options) {
  const bool is_differencing = options.type == DiskType::differencing;
  if (is_differencing != options.parent.has_value())
    return fail(Errc::invalid_argument, is_differencing ? "a differencing VHD needs a parent"
                                                        : "only a differencing VHD has a parent");
  if (!is_differencing) return {};
  if (options.parent->relative_path.empty() && options.parent->absolute_path.empty())
    return fail(Errc::invalid_argument, "a differencing VHD needs its parent's path");
  for (const std::string& path : {options.parent->relative_path, options.parent->absolute_path})
    if (path.size() > max_locator_bytes / 2)  // UTF-16 takes at most two bytes for each of UTF-8
      return fail(Errc::invalid_argument,
                  fmt::format("the parent's path has {} bytes: a VHD takes at most {}", path.size(),
                              max_locator_bytes / 2));
  return {};
}

Result<void> check_type(DiskType type) {
  if (type == DiskType::fixed || type == DiskType::dynamic || type == DiskType::differencing)
    return {};
  return fail(
      Errc::invalid_argument,
      fmt::format("disk type {}: it must be fixed, dynamic or differencing", uint32_t(type)));
}

}  // namespace

Result<std::unique_ptr<disk::BulkWriter>> create(File& file, const CreateOptions& options) {
  TRY(check_type(options.type));
  TRY(check_size(options));
  TRY(check_block_size(options));
  TRY(check_parent(options));
  const HardDiskFooter footer = footer_for(options);
  if (options.type == DiskType::fixed) return std::make_unique<FixedWriter>(file, footer);
  return std::make_unique<DynamicWriter>(file, footer, options.block_size_bytes, options.parent);
}

}  // namespace vhdkit::libvhd
