#include "libvhd/vhd_layer.h"

#include <fmt/format.h>

#include "libvhd/dynamic_layer.h"
#include "libvhd/fixed_layer.h"

namespace vhdkit::libvhd {
namespace {

Result<std::unique_ptr<disk::Layer>> open_fixed(std::unique_ptr<File> file, FoundFooter found) {
  const uint64_t size = found.footer.size_bytes();
  if (size > found.content_end)
    return fail(Errc::corrupt, fmt::format("{}: the fixed disk of {:#x} bytes runs past its footer "
                                           "at offset {:#x}",
                                           file->name(), size, found.content_end));
  return std::make_unique<FixedLayer>(std::move(file), std::move(found));
}

}  // namespace

Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file) {
  DynamicImage image;
  CO_TRY_LET(image.found, co_await find_footer(*file));
  const HardDiskFooter& footer = image.found.footer;
  if (footer.type == DiskType::fixed) co_return open_fixed(std::move(file), std::move(image.found));
  const uint64_t end = image.found.content_end;
  CO_TRY_LET(image.header, co_await read_dynamic_header(*file, footer.data_offset, end));
  if (footer.type == DiskType::differencing) {
    CO_TRY_LET(image.located, co_await read_parent_locators(*file, image.header, end));
  }
  co_return std::make_unique<DynamicLayer>(std::move(file), std::move(image));
}

}  // namespace vhdkit::libvhd
