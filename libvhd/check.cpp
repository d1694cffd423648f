#include "libvhd/check.h"

#include <fmt/format.h>

#include <algorithm>

#include "libvhd/check_parts.h"

namespace vhdkit::libvhd {
namespace {

using disk::Severity;

void check_fixed(const FooterToCheck& found, disk::Findings& findings) {
  const uint64_t disk_end = found.footer.size_bytes();
  // A disk sized by geometry keeps the rest of its current size behind its end.
  const uint64_t used_end = std::max(disk_end, found.footer.current_size_bytes);
  Subject disk(findings, "fixed disk", 0);
  if (disk_end > found.content_end)
    disk.add(Severity::corruption, "vhd-disk-past-end", "", 0, hex(disk_end),
             fmt::format("its {:#x} bytes run past the footer at offset {:#x}", disk_end,
                         found.content_end));
  else if (used_end < found.content_end)
    disk.add(Severity::leak, "vhd-data-after-disk", "", used_end, hex(found.content_end - used_end),
             fmt::format("{:#x} bytes between its end at offset {:#x} and the footer are not used",
                         found.content_end - used_end, used_end));
}

}  // namespace

Async<void> check(File& file, disk::Findings& findings, disk::BlockUsage& usage) {
  CO_TRY_LET(const std::optional<FooterToCheck> found, co_await check_footers(file, findings));
  if (!found) co_return Result<void>();
  if (found->footer.type == DiskType::fixed) {
    check_fixed(*found, findings);
    usage.image_end_offset = file.size_bytes();
    co_return Result<void>();
  }
  CO_TRY_LET(const std::optional<DynamicDiskHeader> header,
             co_await check_header(file, *found, findings));
  if (!header) co_return Result<void>();
  std::vector<LocatedParent> located;
  const bool is_differencing = found->footer.type == DiskType::differencing;
  if (is_differencing) {
    CO_TRY_LET(located, co_await read_parent_locators(file, *header, found->content_end));
  }
  const BlockLayout layout = layout_of(found->footer.size_bytes(), found->footer.data_offset,
                                       *header, located, found->content_end);
  if (is_differencing) check_parent(layout, found->footer.data_offset, *header, located, findings);
  CO_TRY(co_await check_blocks(file, layout, found->footer.type, findings, usage));
  const bool has_tail = found->content_end < file.size_bytes();
  if (has_tail) usage.image_end_offset = file.size_bytes();
  co_return Result<void>();
}

}  // namespace vhdkit::libvhd
