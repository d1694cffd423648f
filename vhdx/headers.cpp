#include "vhdx/headers.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/crc32c.h"
#include "support/utf16.h"

namespace vhdkit::vhdx {
namespace {

// A session changes the headers three times, each time both.
constexpr uint64_t header_updates = 6;

// The two headers as they lie in the file; bytes past its end stay zero.
struct RawHeaders {
  std::array<Header, 2> headers{};
  std::array<std::string, 2> damage;
};

Async<std::string> read_creator(File& file) {
  FileTypeIdentifier raw{};
  const size_t length = std::min<uint64_t>(sizeof raw, file.size_bytes());
  const std::span<std::byte> buffer = writable_bytes_of(raw).first(length);
  CO_TRY(co_await file.read(0, buffer));
  if (raw.signature != file_signature)
    co_return fail(Errc::corrupt,
                   fmt::format("{}: file type identifier at offset 0x0: signature {:#x} is not "
                               "\"vhdxfile\"",
                               file.name(), uint64_t(raw.signature)));
  co_return utf16_to_utf8(raw.creator, ByteOrder::little);
}

Async<RawHeaders> read_raw_headers(File& file) {
  RawHeaders raw;
  for (size_t i = 0; i < raw.headers.size(); ++i) {
    if (!range_fits(header_offsets[i], sizeof(Header), file.size_bytes())) {
      raw.damage[i] = fmt::format("cut off by the end of the file ({:#x})", file.size_bytes());
      continue;
    }
    const std::span<std::byte> buffer = writable_bytes_of(raw.headers[i]);
    CO_TRY(co_await file.read(header_offsets[i], buffer));
    raw.damage[i] = header_damage(raw.headers[i]).value_or("");
  }
  co_return raw;
}

std::string header_name(const File& file, unsigned index) {
  return fmt::format("{}: header {} at offset {:#x}", file.name(), index + 1,
                     header_offsets[index]);
}

Result<unsigned> choose_current(const File& file, const RawHeaders& raw) {
  const auto& [first, second] = raw.headers;
  if (!raw.damage[0].empty() && !raw.damage[1].empty())
    return fail(Errc::corrupt,
                fmt::format("{}: {}; header 2 at offset {:#x}: {}", header_name(file, 0),
                            raw.damage[0], header_offsets[1], raw.damage[1]));
  if (!raw.damage[0].empty()) return 1;
  if (!raw.damage[1].empty()) return 0;
  if (first.sequence_number != second.sequence_number)
    return first.sequence_number > second.sequence_number ? 0 : 1;
  if (std::ranges::equal(bytes_of(first), bytes_of(second))) return 0;
  return fail(Errc::corrupt, fmt::format("{}: sequence number {} is header 2's too, and the two "
                                         "differ",
                                         header_name(file, 0), uint64_t(first.sequence_number)));
}

Result<void> check_versions(const Header& raw, std::string_view where) {
  if (raw.version != supported_version)
    return fail(Errc::unsupported,
                fmt::format("{}: version {} is not 1", where, uint16_t(raw.version)));
  if (raw.log_version != supported_log_version && !header_values(raw).log_is_empty())
    return fail(Errc::unsupported, fmt::format("{}: log version {} is not 0, and the log is not "
                                               "empty",
                                               where, uint16_t(raw.log_version)));
  return {};
}

Result<void> check_log_place(const FileHeader& header, uint64_t file_bytes,
                             std::string_view where) {
  if (header.log_length == 0 && header.log_is_empty()) return {};
  if (header.log_length == 0 || !is_aligned(header.log_length, alignment_bytes))
    return fail(Errc::corrupt, fmt::format("{}: log length {:#x} is not a multiple of 1 MiB", where,
                                           header.log_length));
  if (!is_aligned(header.log_offset, alignment_bytes))
    return fail(Errc::corrupt, fmt::format("{}: log offset {:#x} is not a multiple of 1 MiB", where,
                                           header.log_offset));
  if (header.log_offset < header_section_bytes)
    return fail(Errc::corrupt, fmt::format("{}: log offset {:#x} lies in the header section", where,
                                           header.log_offset));
  if (!range_fits(header.log_offset, header.log_length, file_bytes))
    return fail(Errc::corrupt,
                fmt::format("{}: the log [{:#x}, +{:#x}) runs past the end of the "
                            "file ({:#x})",
                            where, header.log_offset, header.log_length, file_bytes));
  return {};
}

uint32_t header_checksum(const Header& raw) {
  return crc32c_without(bytes_of(raw), offsetof(Header, checksum));
}

}  // namespace

std::optional<std::string> header_damage(const Header& raw) {
  if (raw.signature != header_signature)
    return fmt::format("signature {:#x} is not \"head\"", uint32_t(raw.signature));
  if (raw.checksum != header_checksum(raw))
    return fmt::format("checksum {:#x} should be {:#x}", uint32_t(raw.checksum),
                       header_checksum(raw));
  return std::nullopt;
}

FileHeader header_values(const Header& raw) {
  return {.sequence_number = raw.sequence_number,
          .file_write_guid = Guid::from_stored(raw.file_write_guid),
          .data_write_guid = Guid::from_stored(raw.data_write_guid),
          .log_guid = Guid::from_stored(raw.log_guid),
          .log_offset = raw.log_offset,
          .log_length = raw.log_length};
}

Header build_header(const FileHeader& header) {
  Header raw{};
  raw.signature = header_signature;
  raw.sequence_number = header.sequence_number;
  raw.file_write_guid = header.file_write_guid.stored();
  raw.data_write_guid = header.data_write_guid.stored();
  raw.log_guid = header.log_guid.stored();
  raw.log_version = supported_log_version;
  raw.version = supported_version;
  raw.log_length = uint32_t(header.log_length);
  raw.log_offset = header.log_offset;
  raw.checksum = header_checksum(raw);
  return raw;
}

Async<FoundHeaders> read_headers(File& file) {
  FoundHeaders found;
  CO_TRY_LET(found.creator, co_await read_creator(file));
  CO_TRY_LET(const RawHeaders raw, co_await read_raw_headers(file));
  CO_TRY_LET(found.current_index, choose_current(file, raw));
  const Header& current = raw.headers[found.current_index];
  const std::string where = header_name(file, found.current_index);
  CO_TRY(check_versions(current, where));
  found.current = header_values(current);
  found.damage = raw.damage;
  CO_TRY(check_log_place(found.current, file.size_bytes(), where));
  co_return found;
}

Async<void> write_headers(File& file, FoundHeaders& headers) {
  for (int copy = 0; copy < 2; ++copy) {
    headers.current_index = 1 - headers.current_index;
    ++headers.current.sequence_number;
    const Header raw = build_header(headers.current);
    const std::span<const std::byte> bytes = bytes_of(raw);
    CO_TRY(co_await file.write(header_offsets[headers.current_index], bytes));
    CO_TRY(co_await file.flush());
  }
  co_return Result<void>();
}

Result<void> check_sequence_room(const File& file, const FoundHeaders& headers) {
  if (headers.current.sequence_number <= UINT64_MAX - header_updates) return {};
  return fail(Errc::corrupt, fmt::format("{}: sequence number {} leaves none for an update",
                                         header_name(file, headers.current_index),
                                         headers.current.sequence_number));
}

}  // namespace vhdkit::vhdx
