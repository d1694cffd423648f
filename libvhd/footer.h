// The Hard Disk Footer: parsed, validated, searched for and built.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "async/file.h"
#include "libvhd/format.h"
#include "support/guid.h"

namespace vhdkit::libvhd {

inline constexpr uint32_t creator_host_windows = creator_of("Wi2k");

// The disk as an ATA drive tells it.
struct Chs {
  uint16_t cylinders = 0;
  uint8_t heads = 0;
  uint8_t sectors_per_track = 0;

  uint64_t size_bytes() const {
    return uint64_t{cylinders} * heads * sectors_per_track * sector_bytes;
  }
  friend bool operator==(const Chs&, const Chs&) = default;
};
// No file system holds a larger disk; with more, sums would only overflow.
inline constexpr uint64_t max_believable_bytes = uint64_t{1} << 62;

// The largest geometry there is; disks above it (127.5 GiB) carry it too, so it says no size.
inline constexpr Chs maximal_chs = {.cylinders = 65535, .heads = 16, .sectors_per_track = 255};

// The geometry for a size. Spec "Appendix: CHS Calculation".
Chs chs_of_size(uint64_t size_bytes);

// Which of the footer's two sizes the guest sees.
enum class SizeRule { current_size, geometry };

// A footer whose fields were found valid.
struct HardDiskFooter {
  DiskType type = DiskType::dynamic;  // fixed, dynamic or differencing
  uint32_t features = features_reserved;
  uint32_t file_format_version = supported_version;
  uint64_t data_offset = no_offset;  // bytes: the Dynamic Disk Header
  uint32_t time_stamp = 0;           // seconds since 2000-01-01 00:00:00 UTC
  uint32_t creator_application = creator_of("win ");
  uint32_t creator_version = 0x000a0000;
  uint32_t creator_host_os = creator_host_windows;
  uint64_t original_size_bytes = 0;
  uint64_t current_size_bytes = 0;
  Chs geometry;
  Guid unique_id;
  uint8_t saved_state = 0;  // not 0: a machine is suspended on it
  // Other programs keep something there, as blktap does its "hidden": written as they were read.
  decltype(Footer::reserved) reserved{};

  // Virtual PC, Virtual Server and old QEMU mean the geometry, unless it is zero or maximal; all
  // others mean the current size.
  SizeRule size_rule() const;
  // The guest's disk, whole sectors.
  uint64_t size_bytes() const;
};

// Whether the bytes begin with the footer's cookie.
bool has_footer_cookie(std::span<const std::byte> bytes);
// Cookie and checksum. Takes 512 bytes or the 511 of Virtual PC before 2004.
bool is_footer(std::span<const std::byte> bytes);

// bytes: 512, or the 511 of Virtual PC before 2004. where: begins messages, such as
// "a.vhd: footer at offset 0x200".
// Errors: corrupt (cookie, checksum, size); unsupported (version, disk type).
Result<HardDiskFooter> parse_footer(std::span<const std::byte> bytes, std::string_view where);
// The fields as they stand, valid or not: for checks.
HardDiskFooter footer_values(const Footer& raw);
uint32_t footer_checksum(const Footer& raw);
// With its checksum.
Footer build_footer(const HardDiskFooter& footer);

enum class FooterPlace {
  tail,        // the last 512 bytes
  short_tail,  // the last 511 bytes
  head,        // the copy at offset 0; the tail is damaged or cut off
};

// How the copy at offset 0 compares with the footer in use.
enum class FooterCopy { none, equal, different, missing };

struct FoundFooter {
  HardDiskFooter footer;
  FooterPlace place;
  FooterCopy copy;          // none: fixed disks have no copy
  uint64_t content_end;     // bytes: where the footer at the tail begins, else the file's end
  std::string tail_damage;  // why the tail was not used; empty where it was
};

// Looks at the tail, then, for dynamic and differencing disks, at offset 0.
// Errors: corrupt (no footer, or the one there is damaged); unsupported; io.
Async<FoundFooter> find_footer(File& file);

// Writes the footer there, in one sector, and flushes.
Async<void> write_footer(File& file, uint64_t file_offset, const HardDiskFooter& footer);
// The copy at offset 0 is what counts while the tail is on its way: made equal where it differs.
Async<void> make_copy_equal(File& file, const FoundFooter& found);

// "fixed", "dynamic", "differencing"; "type 5" for others.
std::string disk_type_name(uint32_t type);
// The four characters of a creator or platform code, such as "win "; unprintable ones as \xNN.
std::string code_text(uint32_t code);
// ISO 8601, UTC.
std::string time_stamp_text(uint32_t time_stamp);

}  // namespace vhdkit::libvhd
