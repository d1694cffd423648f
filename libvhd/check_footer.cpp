#include <fmt/format.h>

#include <algorithm>

#include "libvhd/check_parts.h"

namespace vhdkit::libvhd {
namespace {

using disk::Findings;
using disk::Severity;
using FooterBytes = std::array<std::byte, sizeof(Footer)>;

// A footer as it lies in the file, the 511-byte one with its missing zero.
struct Seen {
  Footer raw;
  uint64_t file_offset;
  bool is_short;
};

bool is_possible_type(uint32_t type) {
  return type >= uint32_t(DiskType::fixed) && type <= uint32_t(DiskType::differencing);
}

// Whether a check can go on with it.
bool tells_a_disk(const Seen& seen) {
  const HardDiskFooter footer = footer_values(seen.raw);
  return is_possible_type(seen.raw.disk_type) && footer.size_bytes() != 0 &&
         footer.size_bytes() <= max_believable_bytes;
}

void check_identity_fields(const Footer& raw, Subject& subject) {
  if (raw.checksum != footer_checksum(raw))
    subject.add(Severity::corruption, "vhd-footer-checksum", "Checksum", offsetof(Footer, checksum),
                hex(raw.checksum),
                fmt::format("checksum {:#x} should be {:#x}", uint32_t(raw.checksum),
                            footer_checksum(raw)));
  if (raw.file_format_version != supported_version)
    subject.add(raw.file_format_version >> 16 == 1 ? Severity::warning : Severity::corruption,
                "vhd-footer-version", "File Format Version", offsetof(Footer, file_format_version),
                hex(raw.file_format_version),
                fmt::format("file format version {:#x} should be {:#x}",
                            uint32_t(raw.file_format_version), supported_version));
  if (!is_possible_type(raw.disk_type))
    subject.add(Severity::corruption, "vhd-footer-disk-type", "Disk Type",
                offsetof(Footer, disk_type), hex(raw.disk_type),
                fmt::format("disk type {} is not fixed (2), dynamic (3) or differencing (4)",
                            uint32_t(raw.disk_type)));
  if (raw.disk_type == uint32_t(DiskType::fixed) && raw.data_offset != no_offset)
    subject.add(Severity::warning, "vhd-footer-data-offset", "Data Offset",
                offsetof(Footer, data_offset), hex(raw.data_offset),
                fmt::format("data offset {:#x} of a fixed disk should be all ones",
                            uint64_t(raw.data_offset)));
}

// Facts: blktap's vhd.h.
bool is_hidden_by_blktap(const Footer& raw) {
  return raw.creator_application == creator_of("tap\0") && raw.reserved[0] == std::byte{1} &&
         is_zero(std::span(raw.reserved).subspan(1));
}

void check_reserved_fields(const Footer& raw, Subject& subject) {
  if ((raw.features & ~features_temporary) != features_reserved)
    subject.add(Severity::warning, "vhd-footer-features", "Features", offsetof(Footer, features),
                hex(raw.features),
                fmt::format("features {:#x}: bit 1 should be set and bits above it clear",
                            uint32_t(raw.features)));
  if (is_hidden_by_blktap(raw))
    subject.add(Severity::note, "vhd-footer-hidden", "Reserved", offsetof(Footer, reserved), "0x1",
                "blktap (XenServer) marked the disk as hidden: others are based on it");
  else if (!is_zero(raw.reserved))
    subject.add(Severity::warning, "vhd-footer-reserved", "Reserved", offsetof(Footer, reserved),
                "", "reserved bytes should be zero");
  if (raw.saved_state > 1)
    subject.add(Severity::warning, "vhd-footer-saved-state", "Saved State",
                offsetof(Footer, saved_state), hex(raw.saved_state),
                fmt::format("saved state {} should be 0 or 1", unsigned(raw.saved_state)));
  else if (raw.saved_state == 1)
    subject.add(Severity::note, "vhd-saved-state", "Saved State", offsetof(Footer, saved_state),
                "0x1", "the disk belongs to a machine whose state is saved");
}

void check_size_fields(const Footer& raw, Subject& subject) {
  const HardDiskFooter footer = footer_values(raw);
  const uint64_t current = footer.current_size_bytes;
  const uint64_t geometry = footer.geometry.size_bytes();
  constexpr uint64_t geometry_offset = offsetof(Footer, cylinders);
  if (footer.size_bytes() == 0 || current > max_believable_bytes)
    subject.add(Severity::corruption, "vhd-footer-size", "Current Size",
                offsetof(Footer, current_size), hex(current),
                fmt::format("current size {:#x} is no size of a disk", current));
  else if (!is_aligned(current, sector_bytes))
    subject.add(Severity::warning, "vhd-footer-size", "Current Size",
                offsetof(Footer, current_size), hex(current),
                fmt::format("current size {:#x} should be a multiple of 512", current));
  if (footer.size_rule() == SizeRule::geometry && geometry != current)
    subject.add(Severity::note, "vhd-geometry-size", "Disk Geometry", geometry_offset,
                hex(geometry),
                fmt::format("\"{}\" means the size of the geometry, {} bytes; programs that take "
                            "the current size see {}",
                            code_text(footer.creator_application), geometry, current));
  else if (footer.geometry != chs_of_size(current))
    subject.add(Severity::note, "vhd-geometry", "Disk Geometry", geometry_offset, hex(geometry),
                fmt::format("geometry of {} bytes is not the one that the specification computes "
                            "from the current size ({})",
                            geometry, current));
}

void check_fields(const Seen& seen, const std::string& name, Findings& findings) {
  Subject subject(findings, name, seen.file_offset);
  check_identity_fields(seen.raw, subject);
  check_reserved_fields(seen.raw, subject);
  check_size_fields(seen.raw, subject);
  if (seen.is_short)
    subject.add(Severity::note, "vhd-footer-short", "", 0, "511",
                "has 511 bytes, as Virtual PC before 2004 wrote it");
}

// head, tail: the file's first and last bytes, equally many, at least 511.
std::optional<Seen> seen_at_tail(std::span<const std::byte> tail, uint64_t file_bytes) {
  const bool is_short = !has_footer_cookie(tail);
  const auto bytes = is_short ? tail.last(old_footer_bytes) : tail;
  if (!has_footer_cookie(bytes)) return std::nullopt;
  FooterBytes whole{};
  std::ranges::copy(bytes, whole.begin());
  return Seen{.raw = *load<Footer>(whole),
              .file_offset = file_bytes - bytes.size(),
              .is_short = bytes.size() == old_footer_bytes};
}

std::optional<Seen> seen_at_head(std::span<const std::byte> head) {
  const auto raw = load<Footer>(head);
  if (!raw || raw->cookie != footer_cookie) return std::nullopt;
  return Seen{.raw = *raw, .file_offset = 0, .is_short = false};
}

void compare_copies(const Seen& tail, const std::optional<Seen>& head, Findings& findings) {
  Subject copy(findings, "copy of the footer", 0);
  if (!head) {
    copy.add(Severity::warning, "vhd-footer-copy-missing", "Cookie", 0, "",
             "there should be one at offset 0");
    return;
  }
  check_fields(*head, "copy of the footer", findings);
  const auto a = bytes_of(tail.raw);
  const auto b = bytes_of(head->raw);
  const auto difference = std::ranges::mismatch(a, b).in1 - a.begin();
  if (size_t(difference) < a.size())
    copy.add(Severity::warning, "vhd-footer-copy-different", "", uint64_t(difference), "",
             fmt::format("differs from the footer at offset {:#x} from byte {} on",
                         tail.file_offset, difference));
}

bool has_valid_checksum(const Seen& seen) { return seen.raw.checksum == footer_checksum(seen.raw); }

// The one to go on with: a whole one before a damaged one, the tail before the head.
const Seen* choose(const std::optional<Seen>& tail, const std::optional<Seen>& head) {
  for (const bool must_be_whole : {true, false})
    for (const auto* seen : {&tail, &head})
      if (*seen && tells_a_disk(**seen) && (has_valid_checksum(**seen) || !must_be_whole))
        return &**seen;
  return nullptr;
}

}  // namespace

Async<std::optional<FooterToCheck>> check_footers(File& file, Findings& findings) {
  const uint64_t size = file.size_bytes();
  FooterBytes head_bytes{};
  FooterBytes tail_bytes{};
  const auto head_span = std::span<std::byte>(head_bytes).first(std::min(size, sizeof(Footer)));
  const auto tail_span = std::span<std::byte>(tail_bytes).first(head_span.size());
  const uint64_t tail_offset = size - tail_span.size();
  CO_TRY(co_await file.read(0, head_span));
  CO_TRY(co_await file.read(tail_offset, tail_span));
  std::optional<Seen> tail;
  if (size >= old_footer_bytes) tail = seen_at_tail(tail_span, size);
  const std::optional<Seen> head = seen_at_head(head_span);
  if (tail) {
    check_fields(*tail, "footer", findings);
  } else {
    Subject footer(findings, "footer", tail_offset);
    const bool has_copy = head && tells_a_disk(*head) && has_valid_checksum(*head) &&
                          head->raw.disk_type != uint32_t(DiskType::fixed);
    footer.add(has_copy ? Severity::warning : Severity::corruption, "vhd-footer-missing", "Cookie",
               0, "", "there is none at the end of the file, which may be cut off");
  }
  const Seen* chosen = choose(tail, head);
  const bool wants_copy = chosen && chosen->raw.disk_type != uint32_t(DiskType::fixed);
  if (tail && wants_copy) compare_copies(*tail, head, findings);
  if (!tail && head) check_fields(*head, "copy of the footer", findings);
  if (!chosen) co_return std::nullopt;
  const FooterToCheck found{.footer = footer_values(chosen->raw),
                            .content_end = tail ? tail->file_offset : size};
  co_return found;
}

}  // namespace vhdkit::libvhd
