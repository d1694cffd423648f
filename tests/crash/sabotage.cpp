#include "tests/crash/sabotage.h"

#include <algorithm>
#include <vector>

#include "tests/crash/crash_image.h"
#include "vhdx/format.h"

namespace vhdkit::tests {
namespace {

using namespace vhdx;

struct Page {
  uint64_t file_offset;
  std::vector<std::byte> bytes;
};

// The pages of a log entry that has data descriptors in one sector, as our writer makes them.
std::vector<Page> pages_of(std::span<const std::byte> entry) {
  std::vector<Page> pages;
  const LogEntryHeader header = *load<LogEntryHeader>(entry);
  size_t data_at = log_sector_bytes;
  for (uint32_t i = 0; i < header.descriptor_count; ++i) {
    const size_t at = sizeof header + i * sizeof(DataDescriptor);
    const DataDescriptor descriptor = *load<DataDescriptor>(entry, at);
    if (descriptor.signature != data_descriptor_signature) continue;
    const auto sector = entry.subspan(data_at, log_sector_bytes);
    Page page{.file_offset = descriptor.file_offset, .bytes = {sector.begin(), sector.end()}};
    std::ranges::copy(descriptor.leading_bytes, page.bytes.begin());
    std::ranges::copy(descriptor.trailing_bytes, page.bytes.end() - 4);
    pages.push_back(std::move(page));
    data_at += log_sector_bytes;
  }
  return pages;
}

bool begins_entry(Buffers buffers) {
  const std::span bytes(static_cast<const std::byte*>(buffers[0].iov_base), buffers[0].iov_len);
  const auto header = load<LogEntryHeader>(bytes);
  return header && header->signature == log_entry_signature;
}

}  // namespace

Result<Sabotage> parse_sabotage(std::string_view name) {
  if (name == "none") return Sabotage::none;
  if (name == "no-log-flush") return Sabotage::no_log_flush;
  if (name == "apply-first") return Sabotage::apply_first;
  if (name == "no-bitmap-write") return Sabotage::no_bitmap_write;
  return fail(Errc::invalid_argument, "no sabotage has the name " + std::string(name));
}

Async<void> SabotagedFile::put_pages(std::span<const std::byte> entry) {
  for (const Page& page : pages_of(entry)) {
    const std::span<const std::byte> bytes(page.bytes);
    CO_TRY(co_await file_.write(page.file_offset, bytes));
  }
  co_return Result<void>();
}

Async<void> SabotagedFile::writev(uint64_t file_offset, Buffers buffers, Durability durability) {
  if (sabotage_ == Sabotage::no_bitmap_write && bitmap_pages_.contains(file_offset) &&
      buffers[0].iov_len == log_sector_bytes)
    co_return Result<void>();
  // An entry that wraps around the log's end is left alone.
  const std::span bytes(static_cast<const std::byte*>(buffers[0].iov_base), buffers[0].iov_len);
  if (begins_entry(buffers) && load<LogEntryHeader>(bytes)->entry_length == bytes.size()) {
    log_was_written_ = true;
    if (sabotage_ == Sabotage::apply_first) CO_TRY(co_await put_pages(bytes));
    bitmap_pages_.clear();
    for (const Page& page : pages_of(bytes))
      if (page.file_offset >= CrashImage::first_block_offset)
        bitmap_pages_.insert(page.file_offset);
  }
  co_return co_await file_.writev(file_offset, buffers, durability);
}

Async<void> SabotagedFile::flush() {
  const bool is_of_log = std::exchange(log_was_written_, false);
  if (sabotage_ == Sabotage::no_log_flush && is_of_log) co_return Result<void>();
  co_return co_await file_.flush();
}

}  // namespace vhdkit::tests
