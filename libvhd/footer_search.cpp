#include <fmt/format.h>

#include <algorithm>

#include "libvhd/footer.h"

namespace vhdkit::libvhd {
namespace {

using FooterBytes = std::array<std::byte, sizeof(Footer)>;

std::string footer_at(const File& file, uint64_t file_offset) {
  return fmt::format("{}: footer at offset {:#x}", file.name(), file_offset);
}

FooterCopy compare_copy(DiskType type, std::span<const std::byte> tail,
                        std::span<const std::byte> head) {
  if (type == DiskType::fixed) return FooterCopy::none;
  if (!has_footer_cookie(head)) return FooterCopy::missing;
  return std::ranges::equal(tail, head.first(tail.size())) ? FooterCopy::equal
                                                           : FooterCopy::different;
}

// head, tail: the file's first and last bytes, equally many, at least 511.
Result<FoundFooter> footer_at_tail(const File& file, std::span<const std::byte> head,
                                   std::span<const std::byte> tail) {
  const bool is_short = !has_footer_cookie(tail) && has_footer_cookie(tail.last(old_footer_bytes));
  const auto bytes = is_short ? tail.last(old_footer_bytes) : tail;
  const uint64_t file_offset = file.size_bytes() - bytes.size();
  TRY_LET(HardDiskFooter footer, parse_footer(bytes, footer_at(file, file_offset)));
  const FooterCopy copy = compare_copy(footer.type, bytes, head);
  return FoundFooter{
      .footer = std::move(footer),
      .place = bytes.size() == old_footer_bytes ? FooterPlace::short_tail : FooterPlace::tail,
      .copy = copy,
      .content_end = file_offset,
      .tail_damage = {}};
}

// The copy, once the tail was found unusable. Only disks with a Dynamic Disk Header have one.
Result<FoundFooter> footer_at_head(const File& file, std::span<const std::byte> head,
                                   Error tail_error) {
  if (!has_footer_cookie(head)) return std::unexpected(std::move(tail_error));
  TRY_LET(HardDiskFooter footer, parse_footer(head, footer_at(file, 0)));
  if (footer.type == DiskType::fixed) return std::unexpected(std::move(tail_error));
  return FoundFooter{.footer = std::move(footer),
                     .place = FooterPlace::head,
                     .copy = FooterCopy::equal,
                     .content_end = file.size_bytes(),
                     .tail_damage = std::move(tail_error.message)};
}

}  // namespace

Async<FoundFooter> find_footer(File& file) {
  const uint64_t size = file.size_bytes();
  if (size < old_footer_bytes)
    co_return fail(Errc::corrupt, fmt::format("{}: {} bytes are too few for a VHD footer ({})",
                                              file.name(), size, sizeof(Footer)));
  FooterBytes head_bytes{};
  FooterBytes tail_bytes{};
  const auto head = std::span<std::byte>(head_bytes).first(std::min(size, sizeof(Footer)));
  const auto tail = std::span<std::byte>(tail_bytes).first(head.size());
  const uint64_t tail_offset = size - tail.size();
  CO_TRY(co_await file.read(0, head));
  CO_TRY(co_await file.read(tail_offset, tail));
  auto found = footer_at_tail(file, head, tail);
  // A footer of a later version or another type is whole: its copy says nothing else.
  if (found || found.error().code != Errc::corrupt) co_return found;
  co_return footer_at_head(file, head, std::move(found).error());
}

}  // namespace vhdkit::libvhd
