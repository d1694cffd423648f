#include "libvhd/vhd_layer.h"

#include <fmt/format.h>

#include "libvhd/dynamic_layer.h"
#include "libvhd/fixed_layer.h"
#include "libvhd/repair.h"

namespace vhdkit::libvhd {
namespace {

Result<std::unique_ptr<disk::Layer>> open_fixed(std::unique_ptr<File> file, FoundFooter found,
                                                bool writable) {
  const uint64_t size = found.footer.size_bytes();
  if (size > found.content_end)
    return fail(Errc::corrupt, fmt::format("{}: the fixed disk of {:#x} bytes runs past its footer "
                                           "at offset {:#x}",
                                           file->name(), size, found.content_end));
  return std::make_unique<FixedLayer>(std::move(file), std::move(found), writable);
}

// The first blktap had the bits of a sector bitmap in the order of a little-endian machine. Facts:
// blktap's libvhd.c.
Result<void> check_bit_order(const File& file, const HardDiskFooter& footer) {
  const bool is_old_blktap =
      footer.creator_application == creator_of("tap\0") && footer.creator_version == 0x00000001;
  if (!is_old_blktap) return {};
  return fail(Errc::unsupported,
              fmt::format("{}: creator \"{}\" 0.1 wrote sector bitmaps in another order of bits",
                          file.name(), code_text(footer.creator_application)));
}

}  // namespace

Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file, OpenOptions options) {
  if (options.writable) CO_TRY(co_await repair_footers(*file));
  DynamicImage image;
  CO_TRY_LET(image.found, co_await find_footer(*file));
  const HardDiskFooter& footer = image.found.footer;
  if (footer.type == DiskType::fixed)
    co_return open_fixed(std::move(file), std::move(image.found), options.writable);
  CO_TRY(check_bit_order(*file, footer));
  const uint64_t end = image.found.content_end;
  CO_TRY_LET(image.header, co_await read_dynamic_header(*file, footer.data_offset, end));
  if (footer.type == DiskType::differencing) {
    CO_TRY_LET(image.located, co_await read_parent_locators(*file, image.header, end));
  }
  auto layer = std::make_unique<DynamicLayer>(std::move(file), std::move(image));
  if (options.writable) CO_TRY(co_await layer->make_writable());
  co_return std::unique_ptr<disk::Layer>(std::move(layer));
}

}  // namespace vhdkit::libvhd
