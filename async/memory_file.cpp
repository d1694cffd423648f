#include "async/memory_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "support/checked.h"

namespace vhdkit::async {
namespace {

// Calls act(page_index, offset_in_page, part) for each page that the range touches.
template <class Byte, class Act>
void for_each_page(uint64_t file_offset, std::span<Byte> bytes, Act act) {
  while (!bytes.empty()) {
    const uint64_t in_page = file_offset % MemoryFile::page_bytes;
    const size_t length = std::min<size_t>(bytes.size(), MemoryFile::page_bytes - in_page);
    act(file_offset / MemoryFile::page_bytes, in_page, bytes.first(length));
    bytes = bytes.subspan(length);
    file_offset += length;
  }
}

std::span<std::byte> bytes_of_vector(const iovec& vector) {
  return {static_cast<std::byte*>(vector.iov_base), vector.iov_len};
}

}  // namespace

MemoryFile::MemoryFile(std::string name, std::span<const std::byte> content)
    : name_(std::move(name)) {
  store(0, content);
}

// The page for writing: a new one where there is none, a copy where others read it too.
MemoryFile::Page& MemoryFile::own(std::shared_ptr<Page>& page) {
  if (page == nullptr) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

void MemoryFile::store(uint64_t file_offset, std::span<const std::byte> bytes) {
  for_each_page(file_offset, bytes,
                [this](uint64_t page, uint64_t at, std::span<const std::byte> part) {
                  std::memcpy(own(pages_[page]).data() + at, part.data(), part.size());
                });
  size_bytes_ = std::max(size_bytes_, file_offset + bytes.size());
}

void MemoryFile::fetch(uint64_t file_offset, std::span<std::byte> buffer) const {
  for_each_page(file_offset, buffer, [this](uint64_t page, uint64_t at, std::span<std::byte> part) {
    const auto found = pages_.find(page);
    if (found == pages_.end()) {
      std::memset(part.data(), 0, part.size());
    } else {
      std::memcpy(part.data(), found->second->data() + at, part.size());
    }
  });
}

Async<void> MemoryFile::readv(uint64_t file_offset, Buffers buffers) {
  for (const iovec& vector : buffers) {
    if (!range_fits(file_offset, vector.iov_len, size_bytes_))
      co_return fail(Errc::out_of_range, name_ + ": the file ends before offset " +
                                             std::to_string(file_offset + vector.iov_len));
    fetch(file_offset, bytes_of_vector(vector));
    file_offset += vector.iov_len;
  }
  co_return Result<void>();
}

Async<void> MemoryFile::writev(uint64_t file_offset, Buffers buffers, Durability) {
  if (write_count_++ >= failing_from_)
    co_return fail_errno(ENOSPC, name_ + ": writing at offset " + std::to_string(file_offset));
  for (const iovec& vector : buffers) {
    store(file_offset, bytes_of_vector(vector));
    file_offset += vector.iov_len;
  }
  co_return Result<void>();
}

Async<void> MemoryFile::flush() { co_return Result<void>(); }

Result<void> MemoryFile::resize(uint64_t size_bytes) {
  if (size_bytes < size_bytes_) {
    const uint64_t in_page = size_bytes % page_bytes;
    pages_.erase(pages_.lower_bound(ceil_div(size_bytes, page_bytes)), pages_.end());
    const auto last = pages_.find(size_bytes / page_bytes);
    if (in_page != 0 && last != pages_.end())
      std::memset(own(last->second).data() + in_page, 0, page_bytes - in_page);
  }
  size_bytes_ = size_bytes;
  return {};
}

Result<std::optional<FileRange>> MemoryFile::next_data(uint64_t file_offset, uint64_t end) {
  end = std::min(end, size_bytes_);
  auto page = pages_.lower_bound(file_offset / page_bytes);
  if (file_offset >= end || page == pages_.end() || page->first * page_bytes >= end)
    return std::nullopt;
  const uint64_t start = std::max(file_offset, page->first * page_bytes);
  uint64_t next_index = page->first + 1;
  while (++page != pages_.end() && page->first == next_index) ++next_index;
  return FileRange{start, std::min(end, next_index * page_bytes) - start};
}

Result<void> MemoryFile::punch_hole(uint64_t file_offset, uint64_t length) {
  const uint64_t end = std::min(file_offset + length, size_bytes_);
  if (file_offset >= end) return {};
  const uint64_t first_whole = ceil_div(file_offset, page_bytes);
  const uint64_t last_whole = end / page_bytes;
  for (auto page = pages_.lower_bound(file_offset / page_bytes);
       page != pages_.end() && page->first * page_bytes < end;) {
    if (page->first >= first_whole && page->first < last_whole) {
      page = pages_.erase(page);
      continue;
    }
    const uint64_t start = std::max(file_offset, page->first * page_bytes);
    const uint64_t stop = std::min(end, (page->first + 1) * page_bytes);
    std::memset(own(page->second).data() + start % page_bytes, 0, stop - start);
    ++page;
  }
  return {};
}

}  // namespace vhdkit::async
