#include "libvhd/edit.h"

#include <cassert>
#include <tuple>
#include <utility>

#include "libvhd/dynamic_header.h"
#include "libvhd/footer.h"
#include "support/utf16.h"

namespace vhdkit::libvhd {
namespace {

Async<void> write_footer(File& file, uint64_t file_offset, const HardDiskFooter& footer) {
  const Footer raw = build_footer(footer);
  const auto bytes = bytes_of(raw);
  CO_TRY(co_await file.write(file_offset, bytes));
  co_return co_await file.flush();
}

// The tail first: as long as it is whole, it counts.
Async<void> write_footers(File& file, uint64_t tail_offset, const HardDiskFooter& footer) {
  CO_TRY(co_await write_footer(file, tail_offset, footer));
  if (footer.type == DiskType::fixed) co_return Result<void>();
  co_return co_await write_footer(file, 0, footer);
}

// The copy is what counts while the tail is on its way.
Async<void> make_copy_equal(File& file, const FoundFooter& found) {
  if (found.copy != FooterCopy::different) co_return Result<void>();
  co_return co_await write_footer(file, 0, found.footer);
}

struct LocatorData {
  uint64_t file_offset;
  std::vector<std::byte> bytes;
};

// Gives the header its locators, with their data from file_offset on; returns where that ends.
uint64_t place_locators(const ParentLink& parent, uint64_t file_offset, DynamicDiskHeader& header,
                        std::vector<LocatorData>& data) {
  header.parent_locators.clear();
  const std::pair<uint32_t, const std::string*> paths[] = {{platform_w2ru, &parent.relative_path},
                                                           {platform_w2ku, &parent.absolute_path}};
  for (const auto& [platform_code, path] : paths) {
    if (path->empty()) continue;
    std::vector<std::byte> bytes = utf8_to_utf16(*path, ByteOrder::little);
    const uint64_t room = align_up(bytes.size(), sector_bytes);
    header.parent_locators.push_back({.index = uint32_t(data.size()),
                                      .platform_code = platform_code,
                                      .data_space = uint32_t(room),
                                      .data_length_bytes = uint32_t(bytes.size()),
                                      .data_offset = file_offset});
    data.push_back({.file_offset = file_offset, .bytes = std::move(bytes)});
    file_offset += room;
  }
  return file_offset;
}

// What a child that names another parent has behind its old end.
struct NewEnd {
  DynamicHeader header = {};
  uint64_t header_offset = 0;
  std::vector<LocatorData> locators = {};
  uint64_t tail_offset = 0;  // of the footer
};

// The old end stays whole below it.
Async<NewEnd> plan_new_end(File& file, const FoundFooter& found, const ParentLink& parent) {
  CO_TRY_LET(DynamicDiskHeader header,
             co_await read_dynamic_header(file, found.footer.data_offset, found.content_end));
  header.parent_unique_id = parent.unique_id;
  header.parent_time_stamp = parent.time_stamp;
  header.parent_name = parent.name;
  NewEnd end;
  end.header_offset = align_up(found.content_end, sector_bytes) + sizeof(Footer);
  end.tail_offset =
      place_locators(parent, end.header_offset + sizeof(DynamicHeader), header, end.locators);
  end.header = build_dynamic_header(header);
  co_return std::move(end);
}

// The old footer first, so that the file has one at its end all the time; the new one last.
Async<void> write_new_end(File& file, HardDiskFooter footer, const NewEnd& end) {
  CO_TRY(co_await write_footer(file, end.tail_offset, footer));
  const auto header = bytes_of(end.header);
  CO_TRY(co_await file.write(end.header_offset, header));
  for (const LocatorData& locator : end.locators) {
    const std::span<const std::byte> bytes(locator.bytes);
    CO_TRY(co_await file.write(locator.file_offset, bytes));
  }
  CO_TRY(co_await file.flush());
  footer.data_offset = end.header_offset;
  co_return co_await write_footer(file, end.tail_offset, footer);
}

// The header comes to its own place again, which no footer names meanwhile.
Async<void> bring_header_home(File& file, HardDiskFooter footer, const NewEnd& end) {
  const uint64_t own_place = std::exchange(footer.data_offset, end.header_offset);
  CO_TRY(co_await write_footer(file, 0, footer));
  const auto header = bytes_of(end.header);
  CO_TRY(co_await file.write(own_place, header));
  CO_TRY(co_await file.flush());
  footer.data_offset = own_place;
  co_return co_await write_footers(file, end.tail_offset, footer);
}

}  // namespace

Async<void> set_unique_id(File& file, const Guid& unique_id) {
  CO_TRY_LET(FoundFooter found, co_await find_footer(file));
  CO_TRY(co_await make_copy_equal(file, found));
  found.footer.unique_id = unique_id;
  co_return co_await write_footers(file, found.content_end, found.footer);
}

Async<void> change_parent(File& file, const ParentLink& parent) {
  CO_TRY_LET(const FoundFooter found, co_await find_footer(file));
  assert(found.footer.type == DiskType::differencing);
  if (parent.relative_path.empty() && parent.absolute_path.empty())
    co_return fail(Errc::invalid_argument, file.name() + ": the parent has no path");
  CO_TRY_LET(const NewEnd end, co_await plan_new_end(file, found, parent));
  const uint64_t old_bytes = file.size_bytes();
  CO_TRY(co_await make_copy_equal(file, found));
  auto written = co_await write_new_end(file, found.footer, end);
  if (!written) {
    std::ignore = file.resize(old_bytes);
    co_return written;
  }
  co_return co_await bring_header_home(file, found.footer, end);
}

}  // namespace vhdkit::libvhd
