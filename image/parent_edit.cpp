#include "image/parent_edit.h"

#include "libvhd/edit.h"
#include "libvhd/repair.h"
#include "vhdx/edit.h"

namespace vhdkit::image {

using async::SystemFile;

Async<std::unique_ptr<SystemFile>> open_for_edit(async::Loop& loop, const std::string& path,
                                                 Format format) {
  CO_TRY_LET(auto file, SystemFile::open(loop, path, SystemFile::Access::read_write));
  CO_TRY(co_await make_fit_for_edit(*file, format));
  co_return std::move(file);
}

Async<void> make_fit_for_edit(File& file, Format format) {
  if (format == Format::vhdx) co_return co_await vhdx::make_sound(file);
  CO_TRY(co_await libvhd::repair_footers(file));
  co_return Result<void>();
}

Async<void> write_parent(File& file, const ParentForCreation& parent, UnfinishedMerge merge) {
  if (parent.format == Format::vhd) {
    const libvhd::ParentLink link = vhd_parent_link(parent);
    co_return co_await libvhd::change_parent(file, link);
  }
  vhdx::ParentLink link = vhdx_parent_link(parent);
  link.other_data_write_guid = merge.other_identity;
  link.merged_data_write_guids = std::move(merge.merged);
  vhdx::MetadataChange change;
  CO_TRY_LET(change.parent_locator, vhdx::locator_for(link));
  co_return co_await vhdx::change_metadata(file, change);
}

}  // namespace vhdkit::image
