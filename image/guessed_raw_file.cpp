#include "image/guessed_raw_file.h"

#include <algorithm>
#include <cstring>

#include "image/probe.h"

namespace vhdkit::image {
namespace {

// Copies what a write of these buffers puts into a range that begins at range_offset.
void overlay(std::span<std::byte> range, uint64_t range_offset, uint64_t file_offset,
             Buffers buffers) {
  for (const iovec& buffer : buffers) {
    const uint64_t begin = std::max(range_offset, file_offset);
    const uint64_t end = std::min(range_offset + range.size(), file_offset + buffer.iov_len);
    if (begin < end) {
      std::memcpy(range.data() + (begin - range_offset),
                  static_cast<const std::byte*>(buffer.iov_base) + (begin - file_offset),
                  size_t(end - begin));
    }
    file_offset += buffer.iov_len;
  }
}

}  // namespace

Async<void> GuessedRawFile::writev(uint64_t file_offset, Buffers buffers, Durability durability) {
  const uint64_t end = file_offset + total_bytes(buffers);
  if (file_offset >= probed_bytes && end + probed_bytes <= size_bytes())
    return inside_->writev(file_offset, buffers, durability);
  return write_an_end(file_offset, buffers, durability);
}

// The buffers are the guest's, which may change them under way: what was looked at is written.
Async<void> GuessedRawFile::write_an_end(uint64_t file_offset, Buffers buffers,
                                         Durability durability) {
  const auto guard = co_await ends_.lock();
  std::vector<std::byte> bytes(size_t(total_bytes(buffers)));
  overlay(bytes, file_offset, file_offset, buffers);
  const iovec copy{.iov_base = bytes.data(), .iov_len = bytes.size()};
  const Buffers copied(&copy, 1);

  const uint64_t size = std::max(size_bytes(), file_offset + bytes.size());
  const uint64_t length = std::min<uint64_t>(probed_bytes, size);
  const async::FileRange at_head{0, length};
  const async::FileRange at_tail{size - length, length};
  CO_TRY_LET(const auto head, co_await later_content(at_head, file_offset, copied));
  CO_TRY_LET(const auto tail, co_await later_content(at_tail, file_offset, copied));
  const auto probed = probe_ends(head, tail, size, name());
  if (!probed || probed->format != Format::raw || probed->gzip) {
    co_return fail(Errc::permission, name() +
                                         ": with this write the file would no longer pass for raw; "
                                         "say that it is raw (format=raw) to allow it");
  }
  co_return co_await inside_->writev(file_offset, copied, durability);
}

// What the range will hold once the buffers are written at file_offset.
Async<std::vector<std::byte>> GuessedRawFile::later_content(async::FileRange range,
                                                            uint64_t file_offset, Buffers buffers) {
  std::vector<std::byte> content(size_t(range.length));
  const uint64_t there = std::min(range.file_offset + range.length, size_bytes());
  if (there > range.file_offset) {
    const std::span part = std::span(content).first(size_t(there - range.file_offset));
    CO_TRY(co_await inside_->read(range.file_offset, part));
  }
  overlay(content, range.file_offset, file_offset, buffers);
  co_return std::move(content);
}

}  // namespace vhdkit::image
