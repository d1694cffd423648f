#include "image/create.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <filesystem>

#include "disk/raw_writer.h"
#include "image/new_file.h"
#include "image/path_mapping.h"
#include "support/checked.h"
#include "support/utf16.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

// [MS-VHDX] 2.6.2.1; VHD's specification names no largest block, so the same serves.
constexpr uint64_t max_block_bytes = 256 * MiB;

template <class... Args>
std::unexpected<Error> contradiction(fmt::format_string<Args...> text, Args&&... args) {
  return fail(Errc::invalid_argument, fmt::format(text, std::forward<Args>(args)...));
}

// The path from the child's folder to the parent as Windows writes it: ".\base\parent.vhdx".
Result<std::string> relative_windows_path(const std::string& parent_path,
                                          const std::string& child_path) {
  std::error_code error;
  const fs::path folder = fs::weakly_canonical(fs::absolute(child_path), error).parent_path();
  const fs::path parent = fs::weakly_canonical(fs::absolute(parent_path), error);
  std::string relative = parent.lexically_relative(folder).string();
  if (relative.empty())
    return contradiction("{}: no path leads there from {}", parent_path, folder.string());
  if (relative.contains('\\'))
    return contradiction("{}: a parent with a backslash in its path has no Windows path",
                         parent_path);
  std::ranges::replace(relative, '/', '\\');
  return relative.starts_with("..\\") ? relative : ".\\" + relative;
}

// Formats keep paths as UTF-16, in which only text has a form.
Result<void> check_is_text(const std::string& path) {
  const std::vector<std::byte> stored = utf8_to_utf16(path, ByteOrder::little);
  if (utf16_to_utf8(stored, ByteOrder::little) == path) return {};
  return contradiction("{}: a parent's path that is not UTF-8 has no Windows path", path);
}

Result<void> settle_raw(CreateOptions& options) {
  if (options.subformat)
    return contradiction("raw images have no subformat, but {} was asked for",
                         subformat_name(*options.subformat));
  if (options.block_size_bytes != 0) return contradiction("raw images have no block size");
  if (options.logical_sector_bytes != 0 || options.physical_sector_bytes != 0)
    return contradiction("raw images have no sector sizes of their own");
  if (options.disk_id) return contradiction("raw images have no disk identifier");
  return {};
}

Result<void> settle_block_size(CreateOptions& options, uint64_t smallest, uint64_t standard) {
  if (options.block_size_bytes == 0) options.block_size_bytes = standard;
  if (!is_power_of_two(options.block_size_bytes) || options.block_size_bytes < smallest ||
      options.block_size_bytes > max_block_bytes)
    return contradiction("block size {} of a {} is no power of two from {} to {}",
                         options.block_size_bytes, format_name(options.format), smallest,
                         max_block_bytes);
  return {};
}

Result<void> settle_vhd(CreateOptions& options) {
  if (!options.disk_id) options.disk_id = Guid::random();
  if (std::max(options.logical_sector_bytes, options.physical_sector_bytes) > 512)
    return contradiction("VHD has sectors of 512 bytes only; VHDX has larger ones");
  options.logical_sector_bytes = options.physical_sector_bytes = 512;
  if (options.subformat == Subformat::fixed) {
    if (options.block_size_bytes != 0) return contradiction("a fixed VHD has no block size");
    if (options.size_bytes > libvhd::max_fixed_bytes)
      return contradiction("size {} of a fixed VHD is more than {} (64 TiB)", options.size_bytes,
                           libvhd::max_fixed_bytes);
    return {};
  }
  if (options.size_bytes > libvhd::max_dynamic_bytes)
    return contradiction("size {} of a {} VHD is more than {} (2040 GiB); VHDX goes to 64 TiB",
                         options.size_bytes, subformat_name(*options.subformat),
                         libvhd::max_dynamic_bytes);
  return settle_block_size(options, libvhd::min_block_bytes, libvhd::default_block_bytes);
}

Result<void> settle_vhdx(CreateOptions& options, const ParentForCreation* parent) {
  // [MS-VHDX] 2.6.1.2: what a parent says of the virtual disk is its child's, too.
  if (!options.disk_id && parent != nullptr) options.disk_id = parent->disk_id;
  if (!options.disk_id) options.disk_id = Guid::random();
  if (options.logical_sector_bytes == 0)
    options.logical_sector_bytes = parent ? parent->logical_sector_bytes : 512;
  if (options.physical_sector_bytes == 0)
    options.physical_sector_bytes = parent ? parent->physical_sector_bytes : 4096;
  if (options.size_bytes > vhdx::max_disk_bytes)
    return contradiction("size {} of a VHDX is more than {} (64 TiB)", options.size_bytes,
                         vhdx::max_disk_bytes);
  if (!options.data_write_guid) options.data_write_guid = Guid::random();
  const uint64_t standard = options.guest == GuestKind::linux ? 1 * MiB : 32 * MiB;
  return settle_block_size(options, vhdx::min_block_bytes, standard);
}

Result<void> check_sectors(const CreateOptions& options) {
  for (const uint32_t bytes : {options.logical_sector_bytes, options.physical_sector_bytes})
    if (bytes != 0 && bytes != 512 && bytes != 4096)
      return contradiction("sector size {} is neither 512 nor 4096", bytes);
  if (options.physical_sector_bytes != 0 &&
      options.physical_sector_bytes < options.logical_sector_bytes)
    return contradiction("physical sector size {} is less than the logical {}",
                         options.physical_sector_bytes, options.logical_sector_bytes);
  return {};
}

Result<void> settle_parent(CreateOptions& options, const ParentForCreation* parent) {
  const bool is_child = options.parent_path.has_value();
  if (!is_child && options.subformat == Subformat::differencing)
    return contradiction("a differencing image needs a parent (-b)");
  if (!is_child && options.windows_parent_path)
    return contradiction("a Windows path of the parent was given, but no parent (-b)");
  if (!is_child) return {};
  if (options.format != Format::vhd && options.format != Format::vhdx)
    return contradiction("only vhd and vhdx can be made with a parent, not {}",
                         format_name(options.format));
  if (options.subformat && *options.subformat != Subformat::differencing)
    return contradiction("an image with a parent is differencing, not {}",
                         subformat_name(*options.subformat));
  options.subformat = Subformat::differencing;
  if (parent->format != options.format)
    return contradiction("{}: the parent is {}, its child would be {}; both must be the same",
                         *options.parent_path, format_name(parent->format),
                         format_name(options.format));
  if (options.size_bytes == 0) options.size_bytes = parent->size_bytes;
  if (options.size_bytes < parent->size_bytes)
    return contradiction("size {} is less than the parent's, {}", options.size_bytes,
                         parent->size_bytes);
  if (options.logical_sector_bytes != 0 &&
      options.logical_sector_bytes != parent->logical_sector_bytes)
    return contradiction("logical sector size {} differs from the parent's, {}",
                         options.logical_sector_bytes, parent->logical_sector_bytes);
  if (options.windows_parent_path && !is_absolute_windows_path(*options.windows_parent_path))
    return contradiction("{}: is no absolute Windows path, such as C:\\vm\\parent.vhdx",
                         *options.windows_parent_path);
  return {};
}

Result<void> settle_format(CreateOptions& options, const ParentForCreation* parent) {
  if (options.format == Format::qcow2)
    return contradiction("qcow2 is read, not written; targets are raw, vhd and vhdx");
  if (options.data_write_guid && options.format != Format::vhdx)
    return contradiction("only VHDX has a data write GUID");
  if (options.format == Format::raw) return settle_raw(options);
  if (!options.subformat) options.subformat = Subformat::dynamic;
  return options.format == Format::vhd ? settle_vhd(options) : settle_vhdx(options, parent);
}

Result<void> check_size(const CreateOptions& options) {
  const uint64_t unit = std::max<uint64_t>(512, options.logical_sector_bytes);
  if (options.size_bytes == 0) return contradiction("the size of the disk is missing");
  if (!is_aligned(options.size_bytes, unit))
    return contradiction("size {} is no multiple of the sector size, {}", options.size_bytes, unit);
  return {};
}

// What the profile would say of the image that these options make.
Result<void> check_against_profile(const CreateOptions& options, const ParentForCreation* parent) {
  if (!options.profile) return {};
  const bool is_vhd = options.format == Format::vhd;
  const ImageFacts facts{.format = options.format,
                         .subformat = options.subformat.value_or(Subformat::fixed),
                         .disk_bytes = options.size_bytes,
                         .file_bytes = options.size_bytes + (is_vhd ? 512 : 0),
                         .block_bytes = options.block_size_bytes,
                         .logical_sector_bytes = options.logical_sector_bytes,
                         .physical_sector_bytes = options.physical_sector_bytes,
                         .log_is_dirty = false,
                         .has_file_holes = false,
                         .parent_bytes = parent ? parent->size_bytes : 0,
                         .creator_host_os = is_vhd ? "Wi2k" : "",
                         .creator_application = is_vhd ? "win " : "",
                         .file_name = ""};
  disk::Findings findings;
  check_profile(*options.profile, facts, findings);
  for (const disk::Finding& finding : findings.kept())
    if (finding.severity == disk::Severity::corruption)
      return contradiction("{}: {}", finding.structure, finding.message);
  return {};
}

// VHD's clock.
uint32_t seconds_since_2000() {
  using namespace std::chrono;
  const sys_days epoch = year(2000) / January / 1;
  return uint32_t(floor<seconds>(system_clock::now() - epoch).count());
}

libvhd::CreateOptions vhd_options(const CreateOptions& options, const ParentForCreation* parent) {
  libvhd::CreateOptions vhd{.size_bytes = options.size_bytes,
                            .unique_id = *options.disk_id,
                            .time_stamp = seconds_since_2000(),
                            .parent = std::nullopt};
  if (options.subformat == Subformat::fixed) {
    vhd.type = libvhd::DiskType::fixed;
    return vhd;
  }
  vhd.block_size_bytes = uint32_t(options.block_size_bytes);
  if (options.subformat == Subformat::dynamic) return vhd;
  vhd.type = libvhd::DiskType::differencing;
  vhd.parent = vhd_parent_link(*parent);
  return vhd;
}

vhdx::CreateOptions vhdx_options(const CreateOptions& options, const ParentForCreation* parent) {
  vhdx::CreateOptions vhdx{.size_bytes = options.size_bytes,
                           .block_size_bytes = uint32_t(options.block_size_bytes),
                           .logical_sector_bytes = options.logical_sector_bytes,
                           .physical_sector_bytes = options.physical_sector_bytes,
                           .disk_id = *options.disk_id,
                           .data_write_guid = *options.data_write_guid,
                           .parent = std::nullopt};
  if (options.subformat == Subformat::fixed) vhdx.type = vhdx::DiskType::fixed;
  if (options.subformat != Subformat::differencing) return vhdx;
  vhdx.type = vhdx::DiskType::differencing;
  vhdx.parent = vhdx_parent_link(*parent);
  return vhdx;
}

Permissions permissions_of(const CreateOptions& options) {
  if (options.is_private) return {.mode = 0600, .group = std::nullopt};
  return options.parent_path ? permissions_beside(*options.parent_path) : Permissions();
}

}  // namespace

libvhd::ParentLink vhd_parent_link(const ParentForCreation& parent) {
  return {.unique_id = parent.identity,
          .time_stamp = parent.time_stamp,
          .relative_path = parent.relative_path,
          .absolute_path = parent.absolute_path,
          .name = windows_components(parent.relative_path).back()};
}

vhdx::ParentLink vhdx_parent_link(const ParentForCreation& parent) {
  return {.data_write_guid = parent.identity,
          .relative_path = parent.relative_path,
          .absolute_path = parent.absolute_path};
}

Result<ParentForCreation> describe_parent(Image& parent, const std::string& child_path,
                                          const CreateOptions& options) {
  disk::Layer& layer = parent.disk().layer(0);
  const disk::Geometry& geometry = layer.geometry();
  ParentForCreation description{.format = parent.format(),
                                .identity = layer.identity().value_or(Guid()),
                                .time_stamp = layer.time_stamp().value_or(0),
                                .size_bytes = geometry.size_bytes,
                                .logical_sector_bytes = geometry.logical_sector_bytes,
                                .physical_sector_bytes = geometry.physical_sector_bytes,
                                .disk_id = std::nullopt,
                                .relative_path = "",
                                .absolute_path = options.windows_parent_path.value_or("")};
  if (parent.format() == Format::vhdx)
    description.disk_id = Guid::parse(layer.describe().text("disk-id"));
  TRY_LET(description.relative_path, relative_windows_path(parent.path(), child_path));
  TRY(check_is_text(description.relative_path));
  TRY(check_is_text(description.absolute_path));
  return description;
}

Result<CreateOptions> settle(const CreateOptions& options, const ParentForCreation* parent) {
  CreateOptions settled = options;
  if (settled.profile) apply_profile(*settled.profile, settled);
  TRY(check_sectors(settled));
  TRY(settle_parent(settled, parent));
  TRY(settle_format(settled, parent));
  TRY(check_sectors(settled));
  TRY(check_size(settled));
  TRY(check_against_profile(settled, parent));
  return settled;
}

Result<std::unique_ptr<disk::BulkWriter>> make_writer(File& file, const CreateOptions& options,
                                                      const ParentForCreation* parent) {
  switch (options.format) {
    case Format::raw:
      return std::make_unique<disk::RawWriter>(file, options.size_bytes);
    case Format::vhd:
      return libvhd::create(file, vhd_options(options, parent));
    case Format::vhdx:
      return vhdx::create(file, vhdx_options(options, parent));
    case Format::qcow2:
      break;
  }
  assert(false && "settle() refuses qcow2");
  __builtin_unreachable();
}

Async<void> create(async::Loop& loop, const std::string& path, const CreateOptions& options,
                   const OpenOptions& open_options, bool replace) {
  std::unique_ptr<Image> parent_image;
  std::optional<ParentForCreation> description;
  if (options.parent_path) {
    CO_TRY_LET(parent_image, co_await Image::open(loop, *options.parent_path, open_options));
    if (parent_image->contains_file(path))
      co_return contradiction("{}: the new image would take its parent's place", path);
    CO_TRY_LET(description, describe_parent(*parent_image, path, options));
  }
  const ParentForCreation* parent = description ? &*description : nullptr;
  CO_TRY_LET(const CreateOptions settled, settle(options, parent));
  const Permissions permissions = permissions_of(settled);
  CO_TRY_LET(const auto target, NewFile::begin(loop, path, replace, permissions));
  CO_TRY_LET(const auto writer, make_writer(target->file(), settled, parent));
  CO_TRY(co_await writer->finish());
  co_return co_await target->commit();
}

}  // namespace vhdkit::image
