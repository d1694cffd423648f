#include "vhdx/image_writer.h"

#include <algorithm>
#include <cassert>

#include "support/utf16.h"

namespace vhdkit::vhdx {
namespace {

constexpr uint64_t log_offset = header_section_bytes;
constexpr uint64_t log_bytes = 1 * MiB;
constexpr uint64_t metadata_offset = log_offset + log_bytes;
constexpr uint64_t bat_offset = metadata_offset + metadata_region_bytes;
// The BAT is written in pieces of this where it has entries.
constexpr uint64_t piece_entries = 64 * KiB / sizeof(le64);
constexpr size_t page_bytes = 4 * KiB;
constexpr std::string_view creator = "vhdkit " VHDKIT_VERSION;

FileTypeIdentifier build_file_type_identifier() {
  FileTypeIdentifier raw{};
  raw.signature = file_signature;
  std::ranges::copy(utf8_to_utf16(creator, ByteOrder::little), raw.creator.begin());
  return raw;
}

// Writes what is not zero, in whole pages; the rest stays a hole.
Async<void> write_pages(File& file, uint64_t file_offset, std::span<const std::byte> bytes) {
  const auto page_at = [&bytes](size_t at) {
    return bytes.subspan(at, std::min(page_bytes, bytes.size() - at));
  };
  for (size_t at = 0; at < bytes.size();) {
    const size_t begin = at;
    while (at < bytes.size() && !is_zero(page_at(at))) at += page_at(at).size();
    const std::span<const std::byte> run = bytes.subspan(begin, at - begin);
    if (!run.empty()) {
      CO_TRY(co_await file.write(file_offset + begin, run));
    }
    while (at < bytes.size() && is_zero(page_at(at))) at += page_at(at).size();
  }
  co_return Result<void>();
}

BatLayout bat_of(const Metadata& metadata) {
  return {.disk_bytes = metadata.disk_size_bytes,
          .block_bytes = metadata.block_size_bytes,
          .logical_sector_bytes = metadata.logical_sector_bytes,
          .has_parent = metadata.has_parent};
}

}  // namespace

ImageWriter::ImageWriter(File& file, Metadata metadata, const Guid& data_write_guid)
    : file_(file),
      metadata_(std::move(metadata)),
      data_write_guid_(data_write_guid),
      geometry_{.size_bytes = metadata_.disk_size_bytes,
                .logical_sector_bytes = metadata_.logical_sector_bytes,
                .physical_sector_bytes = metadata_.physical_sector_bytes,
                .read_only = false},
      bat_(bat_of(metadata_)),
      order_(bat_.payload_block_count(),
             is_fixed() ? BlockOrder::Initial::all : BlockOrder::Initial::none),
      bat_region_bytes_(align_up(bat_.entry_count() * sizeof(le64), alignment_bytes)) {}

uint64_t ImageWriter::block_size_bytes() const { return is_fixed() ? 0 : bat_.block_bytes; }

uint64_t ImageWriter::block_offset(uint64_t place) const {
  return bat_offset + bat_region_bytes_ + place * bat_.block_bytes;
}

uint64_t ImageWriter::file_size_bytes() const { return block_offset(order_.placed_count()); }

Result<uint64_t> ImageWriter::place(uint64_t disk_offset, uint64_t length) {
  assert(length > 0 && range_fits(disk_offset, length, geometry_.size_bytes));
  const uint64_t in_block = disk_offset % bat_.block_bytes;
  assert(is_fixed() || length <= bat_.block_bytes - in_block);
  return block_offset(order_.place(disk_offset / bat_.block_bytes)) + in_block;
}

Async<void> ImageWriter::finish() {
  CO_TRY(co_await write_header_section());
  CO_TRY(co_await write_metadata());
  CO_TRY(co_await write_bat());
  co_return file_.resize(file_size_bytes());
}

Async<void> ImageWriter::write_header_section() {
  const FileTypeIdentifier identifier = build_file_type_identifier();
  const auto identifier_bytes = bytes_of(identifier);
  CO_TRY(co_await file_.write(0, identifier_bytes));

  // Both headers are valid, so the file opens when one of them is lost. The log GUID stays zero:
  // there is nothing to replay.
  FileHeader header{.file_write_guid = Guid::random(),
                    .data_write_guid = data_write_guid_,
                    .log_offset = log_offset,
                    .log_length = log_bytes};
  for (const uint64_t file_offset : header_offsets) {
    ++header.sequence_number;
    const Header raw = build_header(header);
    const auto bytes = bytes_of(raw);
    CO_TRY(co_await file_.write(file_offset, bytes));
  }

  const std::vector<std::byte> table = build_region_table({.guid = bat_region,
                                                           .file_offset = bat_offset,
                                                           .length = bat_region_bytes_,
                                                           .required = true},
                                                          {.guid = metadata_region,
                                                           .file_offset = metadata_offset,
                                                           .length = metadata_region_bytes,
                                                           .required = true});
  const std::span<const std::byte> table_bytes(table);
  for (const uint64_t file_offset : region_table_offsets) {
    CO_TRY(co_await write_pages(file_, file_offset, table_bytes));
  }
  co_return Result<void>();
}

Async<void> ImageWriter::write_metadata() {
  const std::vector<std::byte> region = build_metadata(metadata_);
  const auto used = std::span<const std::byte>(region).first(metadata_used_bytes(metadata_));
  co_return co_await write_pages(file_, metadata_offset, used);
}

Async<void> ImageWriter::write_bat() {
  for (auto block = order_.next(0); block;) {
    const uint64_t first_index = align_down(bat_.payload_index(*block), piece_entries);
    const std::vector<le64> piece = bat_piece(first_index);
    const auto bytes = std::as_bytes(std::span(piece));
    const uint64_t file_offset = bat_offset + first_index * sizeof(le64);
    CO_TRY(co_await write_pages(file_, file_offset, bytes));
    block = order_.next(bat_.block_of(first_index + piece.size()));
  }
  co_return Result<void>();
}

std::vector<le64> ImageWriter::bat_piece(uint64_t first_index) const {
  std::vector<le64> piece(std::min(piece_entries, bat_.entry_count() - first_index), 0);
  for (size_t i = 0; i < piece.size(); ++i) {
    if (bat_.is_bitmap_index(first_index + i)) continue;
    const uint64_t block = bat_.block_of(first_index + i);
    if (block >= bat_.payload_block_count()) break;
    if (const auto place = order_.find(block))
      piece[i] = make_bat_entry(BlockState::fully_present, block_offset(*place));
  }
  return piece;
}

}  // namespace vhdkit::vhdx
