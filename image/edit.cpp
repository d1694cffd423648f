#include "image/edit.h"

#include <fmt/format.h>

#include "image/create.h"
#include "image/known_children.h"
#include "image/parent_edit.h"
#include "image/parent_search.h"
#include "libvhd/edit.h"
#include "vhdx/edit.h"

namespace vhdkit::image {
namespace {

// The image by itself, its parents left alone.
Async<std::unique_ptr<Image>> look_at(async::Loop& loop, const std::string& path,
                                      const OpenOptions& options) {
  OpenOptions alone{.format = options.format};
  alone.open_parents = false;
  CO_TRY_LET(auto image, co_await Image::open(loop, path, alone));
  if (image->format() != Format::vhd && image->format() != Format::vhdx)
    co_return fail(Errc::unsupported, fmt::format("{}: only vhd and vhdx images are changed, this "
                                                  "is {}",
                                                  path, format_name(image->format())));
  co_return std::move(image);
}

Result<void> check_values(const std::string& path, Format format, const SetOptions& options) {
  if (!options.disk_id && !options.data_write_guid && !options.physical_sector_bytes)
    return fail(Errc::invalid_argument, path + ": there is nothing to change");
  if (format == Format::vhd && (options.data_write_guid || options.physical_sector_bytes))
    return fail(Errc::invalid_argument,
                path + ": a VHD has neither a DataWriteGuid nor a physical sector size");
  return {};
}

Async<void> check_children(async::Loop& loop, Image& image, const SetOptions& options) {
  const bool changes_identity = image.format() == Format::vhd ? options.disk_id.has_value()
                                                              : options.data_write_guid.has_value();
  if (!changes_identity || options.force) co_return Result<void>();
  CO_TRY_LET(const std::vector<std::string> children,
             co_await known_children(loop, image.path(), image.disk().layer(0)));
  if (children.empty()) co_return Result<void>();
  co_return fail(Errc::invalid_argument,
                 fmt::format("{}: is the parent of {}, which would not find it any more; force it, "
                             "and reparent that one",
                             image.path(), children.front()));
}

Result<void> check_parent(Image& child, Image& parent, const ReparentOptions& options) {
  const disk::ParentReference& reference = *child.disk().layer(0).parent();
  if (parent.format() != child.format())
    return fail(Errc::invalid_argument,
                fmt::format("{}: a {} is no parent of a {}", parent.path(),
                            format_name(parent.format()), format_name(child.format())));
  if (parent.disk().geometry().logical_sector_bytes != child.disk().geometry().logical_sector_bytes)
    return fail(Errc::invalid_argument,
                parent.path() + ": has other logical sectors than " + child.path());
  if (parent.contains_file(child.path()))
    return fail(Errc::invalid_argument, fmt::format("{}: has {} among its own parents, or is it",
                                                    parent.path(), child.path()));
  const std::optional<Guid> identity = parent.disk().layer(0).identity();
  if (names(reference, identity) || options.force) return {};
  return fail(
      Errc::wrong_parent,
      fmt::format("{}: is not the parent that {} names: its identity is {}; only force it "
                  "if you know that its content is the same",
                  parent.path(), child.path(), identity ? identity->to_string() : "unknown"));
}

}  // namespace

Async<void> set(async::Loop& loop, const std::string& path, const SetOptions& options,
                const OpenOptions& open_options) {
  Format format = Format::raw;
  {
    CO_TRY_LET(const auto image, co_await look_at(loop, path, open_options));
    format = image->format();
    CO_TRY(check_values(path, format, options));
    CO_TRY(co_await check_children(loop, *image, options));
  }
  CO_TRY_LET(const auto file, co_await open_for_edit(loop, path, format));
  if (format == Format::vhd) co_return co_await libvhd::set_unique_id(*file, *options.disk_id);
  const vhdx::MetadataChange change{.disk_id = options.disk_id,
                                    .physical_sector_bytes = options.physical_sector_bytes,
                                    .parent_locator = std::nullopt};
  CO_TRY(co_await vhdx::change_metadata(*file, change));
  if (options.data_write_guid)
    co_return co_await vhdx::set_data_write_guid(*file, *options.data_write_guid);
  co_return Result<void>();
}

Async<void> reparent(async::Loop& loop, const std::string& path, const ReparentOptions& options,
                     const OpenOptions& open_options) {
  const OpenOptions parent_options{.path_mappings = open_options.path_mappings};
  CO_TRY_LET(const auto parent, co_await Image::open(loop, options.parent_path, parent_options));
  Format format = Format::raw;
  {
    CO_TRY_LET(const auto child, co_await look_at(loop, path, open_options));
    format = child->format();
    if (child->disk().layer(0).parent() == nullptr)
      co_return fail(Errc::invalid_argument, path + ": is no differencing image");
    CO_TRY(check_parent(*child, *parent, options));
  }
  const CreateOptions names{.windows_parent_path = options.windows_parent_path};
  CO_TRY_LET(const ParentForCreation link, describe_parent(*parent, path, names));
  CO_TRY_LET(const auto file, co_await open_for_edit(loop, path, format));
  const UnfinishedMerge none;
  co_return co_await write_parent(*file, link, none);
}

}  // namespace vhdkit::image
