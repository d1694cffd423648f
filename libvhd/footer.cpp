#include "libvhd/footer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "libvhd/checksum.h"

namespace vhdkit::libvhd {
namespace {

using FooterBytes = std::array<std::byte, sizeof(Footer)>;

// The 511 bytes of Virtual PC before 2004 with their missing zero.
std::optional<Footer> whole_footer(std::span<const std::byte> bytes) {
  if (bytes.size() < old_footer_bytes) return std::nullopt;
  FooterBytes whole{};
  std::ranges::copy(bytes.first(std::min(bytes.size(), whole.size())), whole.begin());
  return load<Footer>(whole);
}

// The creators whose guests see the geometry. Facts: QEMU's block/vpc.c.
bool means_geometry(uint32_t creator_application) {
  return creator_application == creator_of("vpc ") || creator_application == creator_of("vs  ") ||
         creator_application == creator_of("qemu");
}

Result<void> check_kind(const Footer& raw, std::string_view where) {
  if (raw.file_format_version >> 16 != supported_version >> 16)
    return fail(Errc::unsupported, fmt::format("{}: file format version {:#x} is not 1.x", where,
                                               uint32_t(raw.file_format_version)));
  const uint32_t type = raw.disk_type;
  if (type < uint32_t(DiskType::fixed) || type > uint32_t(DiskType::differencing))
    return fail(Errc::unsupported,
                fmt::format("{}: disk type {} is not fixed (2), dynamic (3) or differencing (4)",
                            where, type));
  return {};
}

}  // namespace

Chs chs_of_size(uint64_t size_bytes) {
  constexpr uint64_t most_cylinders = 1024;  // of a BIOS
  const uint64_t sectors =
      std::min(size_bytes / sector_bytes, maximal_chs.size_bytes() / sector_bytes);
  uint64_t sectors_per_track = 255;
  uint64_t heads = 16;
  if (sectors < uint64_t{65535} * 16 * 63) {
    sectors_per_track = 17;
    heads = std::max<uint64_t>(4, ceil_div(sectors / sectors_per_track, most_cylinders));
    if (heads > 16 || sectors / sectors_per_track >= heads * most_cylinders) {
      sectors_per_track = 31;
      heads = 16;
    }
    if (sectors / sectors_per_track >= heads * most_cylinders) sectors_per_track = 63;
  }
  return {.cylinders = uint16_t(sectors / sectors_per_track / heads),
          .heads = uint8_t(heads),
          .sectors_per_track = uint8_t(sectors_per_track)};
}

SizeRule HardDiskFooter::size_rule() const {
  const bool says_size = geometry != maximal_chs && geometry.size_bytes() != 0;
  return says_size && means_geometry(creator_application) ? SizeRule::geometry
                                                          : SizeRule::current_size;
}

uint64_t HardDiskFooter::size_bytes() const {
  return size_rule() == SizeRule::geometry ? geometry.size_bytes()
                                           : align_down(current_size_bytes, sector_bytes);
}

bool has_footer_cookie(std::span<const std::byte> bytes) {
  const auto cookie = load<be64>(bytes);
  return cookie && *cookie == footer_cookie;
}

bool is_footer(std::span<const std::byte> bytes) {
  const auto raw = whole_footer(bytes);
  return raw && raw->cookie == footer_cookie && raw->checksum == footer_checksum(*raw);
}

HardDiskFooter footer_values(const Footer& raw) {
  return {.type = DiskType(uint32_t(raw.disk_type)),
          .features = raw.features,
          .file_format_version = raw.file_format_version,
          .data_offset = raw.data_offset,
          .time_stamp = raw.time_stamp,
          .creator_application = raw.creator_application,
          .creator_version = raw.creator_version,
          .creator_host_os = raw.creator_host_os,
          .original_size_bytes = raw.original_size,
          .current_size_bytes = raw.current_size,
          .geometry = {.cylinders = raw.cylinders,
                       .heads = raw.heads,
                       .sectors_per_track = raw.sectors_per_track},
          .unique_id = Guid::from_big_endian(raw.unique_id),
          .saved_state = raw.saved_state,
          .reserved = raw.reserved};
}

uint32_t footer_checksum(const Footer& raw) {
  return checksum_without(bytes_of(raw), offsetof(Footer, checksum));
}

Result<HardDiskFooter> parse_footer(std::span<const std::byte> bytes, std::string_view where) {
  const auto raw = whole_footer(bytes);
  if (!raw)
    return fail(Errc::corrupt, fmt::format("{}: cut off after {} bytes", where, bytes.size()));
  if (raw->cookie != footer_cookie)
    return fail(Errc::corrupt,
                fmt::format("{}: cookie {:#x} is not \"conectix\"", where, uint64_t(raw->cookie)));
  if (raw->checksum != footer_checksum(*raw))
    return fail(Errc::corrupt, fmt::format("{}: checksum {:#x} should be {:#x}", where,
                                           uint32_t(raw->checksum), footer_checksum(*raw)));
  TRY(check_kind(*raw, where));
  const HardDiskFooter footer = footer_values(*raw);
  if (footer.size_bytes() == 0 || footer.size_bytes() > max_believable_bytes)
    return fail(Errc::corrupt, fmt::format("{}: current size {:#x} is no size of a disk", where,
                                           footer.current_size_bytes));
  return footer;
}

Footer build_footer(const HardDiskFooter& footer) {
  Footer raw{};
  raw.cookie = footer_cookie;
  raw.features = footer.features;
  raw.file_format_version = footer.file_format_version;
  raw.data_offset = footer.data_offset;
  raw.time_stamp = footer.time_stamp;
  raw.creator_application = footer.creator_application;
  raw.creator_version = footer.creator_version;
  raw.creator_host_os = footer.creator_host_os;
  raw.original_size = footer.original_size_bytes;
  raw.current_size = footer.current_size_bytes;
  raw.cylinders = footer.geometry.cylinders;
  raw.heads = footer.geometry.heads;
  raw.sectors_per_track = footer.geometry.sectors_per_track;
  raw.disk_type = uint32_t(footer.type);
  std::ranges::copy(footer.unique_id.big_endian(), raw.unique_id.begin());
  raw.saved_state = footer.saved_state;
  raw.reserved = footer.reserved;
  raw.checksum = footer_checksum(raw);
  return raw;
}

Async<void> write_footer(File& file, uint64_t file_offset, const HardDiskFooter& footer) {
  const Footer raw = build_footer(footer);
  const auto bytes = bytes_of(raw);
  CO_TRY(co_await file.write(file_offset, bytes));
  co_return co_await file.flush();
}

Async<void> make_copy_equal(File& file, const FoundFooter& found) {
  if (found.copy != FooterCopy::different) co_return Result<void>();
  co_return co_await write_footer(file, 0, found.footer);
}

std::string disk_type_name(uint32_t type) {
  switch (DiskType(type)) {
    case DiskType::fixed:
      return "fixed";
    case DiskType::dynamic:
      return "dynamic";
    case DiskType::differencing:
      return "differencing";
    case DiskType::none:
      break;
  }
  return fmt::format("type {}", type);
}

std::string code_text(uint32_t code) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    const uint32_t byte = code >> shift & 0xff;
    text +=
        byte >= 0x20 && byte < 0x7f ? std::string(1, char(byte)) : fmt::format("\\x{:02x}", byte);
  }
  return text;
}

std::string time_stamp_text(uint32_t time_stamp) {
  using namespace std::chrono;
  const sys_seconds epoch = sys_days(year(2000) / January / 1);
  const sys_seconds moment = epoch + seconds(time_stamp);
  const sys_days day = floor<days>(moment);
  const year_month_day date(day);
  const hh_mm_ss time(moment - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", int(date.year()),
                     unsigned(date.month()), unsigned(date.day()), time.hours().count(),
                     time.minutes().count(), time.seconds().count());
}

}  // namespace vhdkit::libvhd
