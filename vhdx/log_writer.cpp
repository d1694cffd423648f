#include "vhdx/log_writer.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "support/checked.h"
#include "support/crc32c.h"

namespace vhdkit::vhdx {
namespace {

// By memcpy, here and below, since a sector of 4 KiB goes through both for each page: g++ 12's
// std::ranges::copy() moves single bytes.
template <OnDisk T>
void put(std::vector<std::byte>& bytes, size_t at, const T& value) {
  assert(range_fits(at, sizeof value, bytes.size()));
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <size_t size>
std::array<std::byte, size> cut(std::span<const std::byte> bytes, size_t at) {
  std::array<std::byte, size> part;
  std::memcpy(part.data(), bytes.subspan(at, size).data(), size);
  return part;
}

// How many pages from the first on are zeroes and follow each other in the file.
size_t zero_run(std::span<const disk::ChangedPage> pages) {
  size_t count = 0;
  while (count < pages.size() && is_zero(pages[count].bytes) &&
         pages[count].file_offset == pages[0].file_offset + count * log_sector_bytes)
    ++count;
  return count;
}

}  // namespace

Async<void> align_end(File& file) {
  const uint64_t size_bytes = file.size_bytes();
  if (is_aligned(size_bytes, alignment_bytes)) co_return Result<void>();
  CO_TRY(file.resize(align_up(size_bytes, alignment_bytes)));
  co_return co_await file.flush();
}

std::vector<std::byte> build_log_entry(std::span<const disk::ChangedPage> pages,
                                       const Guid& log_guid, uint64_t sequence_number,
                                       uint64_t log_offset, FileEnds ends) {
  assert(!pages.empty() && pages.size() <= max_entry_pages);
  assert(is_aligned(ends.flushed, alignment_bytes) && is_aligned(ends.last, alignment_bytes));
  std::vector<std::byte> entry(log_sector_bytes);
  uint32_t descriptor_count = 0;
  for (size_t i = 0; i < pages.size();) {
    const size_t at = sizeof(LogEntryHeader) + descriptor_count++ * sizeof(DataDescriptor);
    const std::span<const std::byte> page(pages[i].bytes);
    assert(page.size() == log_sector_bytes);
    if (const size_t count = zero_run(pages.subspan(i)); count > 0) {
      put(entry, at,
          ZeroDescriptor{.signature = zero_descriptor_signature,
                         .reserved = 0,
                         .zero_length = count * log_sector_bytes,
                         .file_offset = pages[i].file_offset,
                         .sequence_number = sequence_number});
      i += count;
      continue;
    }
    put(entry, at,
        DataDescriptor{.signature = data_descriptor_signature,
                       .trailing_bytes = cut<4>(page, 4092),
                       .leading_bytes = cut<8>(page, 0),
                       .file_offset = pages[i].file_offset,
                       .sequence_number = sequence_number});
    entry.resize(entry.size() + log_sector_bytes);
    put(entry, entry.size() - log_sector_bytes,
        LogDataSector{.signature = data_sector_signature,
                      .sequence_high = uint32_t(sequence_number >> 32),
                      .data = cut<4084>(page, 8),
                      .sequence_low = uint32_t(sequence_number)});
    ++i;
  }
  LogEntryHeader header{.signature = log_entry_signature,
                        .checksum = 0,
                        .entry_length = uint32_t(entry.size()),
                        .tail = uint32_t(log_offset),
                        .sequence_number = sequence_number,
                        .descriptor_count = descriptor_count,
                        .reserved = 0,
                        .log_guid = log_guid.stored(),
                        .flushed_file_offset = ends.flushed,
                        .last_file_offset = ends.last};
  put(entry, 0, header);
  header.checksum = crc32c(entry);
  put(entry, 0, header);
  return entry;
}

Async<void> LogWriter::write(std::span<const disk::ChangedPage> pages, FileEnds ends) {
  const std::vector<std::byte> entry =
      build_log_entry(pages, guid_, sequence_number_ + 1, next_offset_, ends);
  const uint64_t room = header_.log_length - next_offset_;
  const auto before_end = std::span(entry).first(std::min<uint64_t>(entry.size(), room));
  const auto after_wrap = std::span(entry).subspan(before_end.size());
  CO_TRY(co_await file_.write(header_.log_offset + next_offset_, before_end));
  if (!after_wrap.empty()) {
    CO_TRY(co_await file_.write(header_.log_offset, after_wrap));
  }
  CO_TRY(co_await file_.flush());
  ++sequence_number_;
  next_offset_ = (next_offset_ + entry.size()) % header_.log_length;
  co_return Result<void>();
}

}  // namespace vhdkit::vhdx
