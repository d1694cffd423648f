#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "vhdx/check_parts.h"

namespace vhdkit::vhdx {
namespace {

using disk::Findings;
using disk::hex;
using disk::Severity;
using disk::Subject;

// A header as it lies in the file; bytes past its end are zero.
struct Seen {
  Header raw{};
  std::string damage;  // empty: the header is valid
  bool has_signature = false;
  bool is_cut_off = false;

  bool is_valid() const { return damage.empty(); }
};
using SeenHeaders = std::array<Seen, 2>;

Async<void> check_identifier(File& file, Findings& findings) {
  FileTypeIdentifier raw{};
  const size_t length = std::min<uint64_t>(sizeof raw, file.size_bytes());
  const std::span<std::byte> buffer = writable_bytes_of(raw).first(length);
  CO_TRY(co_await file.read(0, buffer));
  Subject identifier(findings, "file type identifier", 0);
  if (raw.signature != file_signature)
    identifier.add(Severity::corruption, "vhdx-signature", "Signature", 0, hex(raw.signature),
                   fmt::format("signature {:#x} is not \"vhdxfile\"", uint64_t(raw.signature)));
  co_return Result<void>();
}

Async<SeenHeaders> read_both(File& file) {
  SeenHeaders headers;
  for (size_t i = 0; i < headers.size(); ++i) {
    Seen& seen = headers[i];
    const uint64_t begin = std::min(header_offsets[i], file.size_bytes());
    const uint64_t length = std::min<uint64_t>(sizeof seen.raw, file.size_bytes() - begin);
    const std::span<std::byte> buffer = writable_bytes_of(seen.raw).first(length);
    CO_TRY(co_await file.read(begin, buffer));
    seen.damage = header_damage(seen.raw).value_or("");
    seen.has_signature = seen.raw.signature == header_signature;
    seen.is_cut_off = length < sizeof seen.raw;
    if (seen.is_cut_off)
      seen.damage = fmt::format("cut off by the end of the file ({:#x})", file.size_bytes());
  }
  co_return headers;
}

// The index of the one to go on with: a valid one before a damaged one, then the larger sequence
// number.
std::optional<size_t> choose(const SeenHeaders& headers) {
  std::optional<size_t> best;
  for (size_t i = 0; i < headers.size(); ++i) {
    const Seen& seen = headers[i];
    if (!seen.has_signature) continue;
    const auto rank = [](const Seen& one) {
      return std::pair(one.is_valid(), uint64_t(one.raw.sequence_number));
    };
    if (!best || rank(seen) > rank(headers[*best])) best = i;
  }
  return best;
}

void check_damage(const Seen& seen, Severity severity, Subject& subject) {
  if (seen.is_valid()) return;
  if (seen.is_cut_off)
    subject.add(severity, "vhdx-header-cut-off", "", 0, "", seen.damage);
  else if (seen.has_signature)
    subject.add(severity, "vhdx-header-checksum", "Checksum", offsetof(Header, checksum),
                hex(seen.raw.checksum), seen.damage);
  else
    subject.add(severity, "vhdx-header-signature", "Signature", 0, hex(seen.raw.signature),
                seen.damage);
}

void check_versions(const Header& raw, Severity severity, Subject& subject) {
  if (raw.version != supported_version)
    subject.add(severity, "vhdx-header-version", "Version", offsetof(Header, version),
                hex(raw.version), fmt::format("version {} should be 1", uint16_t(raw.version)));
  if (raw.log_version == supported_log_version) return;
  const bool log_is_empty = header_values(raw).log_is_empty();
  subject.add(log_is_empty ? Severity::warning : severity, "vhdx-log-version", "LogVersion",
              offsetof(Header, log_version), hex(raw.log_version),
              fmt::format("log version {} should be 0{}", uint16_t(raw.log_version),
                          log_is_empty ? "" : ", and the log is not empty"));
}

// Why the log has no place in the file.
struct LogFault {
  const char* code;
  const char* field;
  uint64_t field_offset;
  uint64_t value;
  std::string message;
};

std::optional<LogFault> log_fault(const Header& raw, uint64_t file_bytes) {
  const uint64_t begin = raw.log_offset;
  const uint64_t length = raw.log_length;
  const auto length_fault = [&](const char* code, std::string message) {
    return LogFault{code, "LogLength", offsetof(Header, log_length), length, std::move(message)};
  };
  const auto offset_fault = [&](const char* code, std::string message) {
    return LogFault{code, "LogOffset", offsetof(Header, log_offset), begin, std::move(message)};
  };
  if (!is_aligned(length, alignment_bytes) || length == 0)
    return length_fault("vhdx-log-length",
                        fmt::format("log length {:#x} is not a multiple of 1 MiB", length));
  if (!is_aligned(begin, alignment_bytes))
    return offset_fault("vhdx-log-unaligned",
                        fmt::format("log offset {:#x} is not a multiple of 1 MiB", begin));
  if (begin < header_section_bytes)
    return offset_fault("vhdx-log-in-header-section",
                        fmt::format("log offset {:#x} lies in the header section", begin));
  if (!range_fits(begin, length, file_bytes))
    return offset_fault("vhdx-log-past-end",
                        fmt::format("log offset {:#x} with length {:#x} runs past the end of the "
                                    "file ({:#x})",
                                    begin, length, file_bytes));
  return std::nullopt;
}

void check_log_place(const Header& raw, uint64_t file_bytes, Severity severity, Subject& subject) {
  const bool has_none = raw.log_length == 0 && header_values(raw).log_is_empty();
  if (has_none) {
    subject.add(Severity::warning, "vhdx-log-missing", "LogLength", offsetof(Header, log_length),
                "0x0", "log length is 0: nobody can write to the image");
    return;
  }
  if (const auto fault = log_fault(raw, file_bytes))
    subject.add(severity, fault->code, fault->field, fault->field_offset, hex(fault->value),
                fault->message);
}

// The header that is not current is there for the day on which the other is lost.
void check_header(const SeenHeaders& headers, size_t index, bool is_current, uint64_t file_bytes,
                  Findings& findings) {
  const Seen& seen = headers[index];
  const Severity severity = is_current ? Severity::corruption : Severity::warning;
  Subject subject(findings, fmt::format("header {}", index + 1), header_offsets[index]);
  const bool other_is_valid = headers[1 - index].is_valid();
  check_damage(seen, other_is_valid ? Severity::warning : Severity::corruption, subject);
  if (!seen.is_valid() && !is_current) return;
  check_versions(seen.raw, severity, subject);
  check_log_place(seen.raw, file_bytes, severity, subject);
  if (!is_zero(seen.raw.reserved))
    subject.add(Severity::warning, "vhdx-header-reserved", "Reserved", offsetof(Header, reserved),
                "", "reserved bytes should be zero");
}

void compare_headers(const SeenHeaders& headers, Findings& findings) {
  const auto& [first, second] = headers;
  if (!first.is_valid() || !second.is_valid()) return;
  const uint64_t number = first.raw.sequence_number;
  if (number != second.raw.sequence_number) return;
  Subject subject(findings, "header 2", header_offsets[1]);
  const auto field_offset = offsetof(Header, sequence_number);
  if (std::ranges::equal(bytes_of(first.raw), bytes_of(second.raw)))
    subject.add(Severity::note, "vhdx-headers-identical", "SequenceNumber", field_offset,
                hex(number), "is the same as header 1 in every byte, as Disk2VHD writes it");
  else
    subject.add(Severity::corruption, "vhdx-headers-ambiguous", "SequenceNumber", field_offset,
                hex(number),
                fmt::format("sequence number {} is header 1's too, and the two differ: nothing "
                            "tells which is current",
                            number));
}

FileHeader header_to_go_on_with(const Seen& seen, uint64_t file_bytes) {
  FileHeader header = header_values(seen.raw);
  if (log_fault(seen.raw, file_bytes)) header.log_offset = header.log_length = 0;
  const bool can_replay =
      seen.is_valid() && header.log_length > 0 && seen.raw.log_version == supported_log_version;
  if (!can_replay) header.log_guid = Guid();
  return header;
}

}  // namespace

Async<std::optional<FileHeader>> check_headers(File& file, Findings& findings) {
  CO_TRY(co_await check_identifier(file, findings));
  CO_TRY_LET(const SeenHeaders headers, co_await read_both(file));
  const std::optional<size_t> current = choose(headers);
  for (size_t i = 0; i < headers.size(); ++i)
    check_header(headers, i, current == i, file.size_bytes(), findings);
  compare_headers(headers, findings);
  if (!current || headers[*current].raw.version != supported_version) co_return std::nullopt;
  co_return header_to_go_on_with(headers[*current], file.size_bytes());
}

}  // namespace vhdkit::vhdx
