#include "image/stream_file.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>

#include "support/checked.h"

namespace vhdkit::image {

void wait_until_ready(int descriptor, short events) {
  pollfd waiting{.fd = descriptor, .events = events, .revents = 0};
  poll(&waiting, 1, -1);
}

StreamFile::StreamFile(int descriptor, std::string name, const Progress* progress)
    : descriptor_(descriptor), name_(std::move(name)), progress_(progress) {}

Result<void> StreamFile::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (progress_ != nullptr && progress_->cancelled())
      return fail(Errc::interrupted, "interrupted");
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {
      wait_until_ready(descriptor_, POLLOUT);
      continue;
    }
    if (written < 0) return fail_errno(errno, name_ + ": writing");
    bytes = bytes.subspan(size_t(written));
    position_ += uint64_t(written);
  }
  return {};
}

Result<void> StreamFile::append_zeroes(uint64_t length) {
  static constexpr std::array<std::byte, 64 * KiB> zeroes{};
  while (length > 0) {
    const size_t piece = std::min<uint64_t>(length, zeroes.size());
    TRY(append(std::span(zeroes).first(piece)));
    length -= piece;
  }
  return {};
}

Async<void> StreamFile::fill_to(uint64_t file_offset) {
  assert(file_offset >= position_);  // the writer keeps the order that BulkWriter promises
  const uint64_t gap = file_offset - position_;
  if (gap == 0) co_return Result<void>();
  if (filler_ == nullptr) co_return append_zeroes(gap);
  co_return co_await filler_->fill(position_, gap);
}

Async<void> StreamFile::writev(uint64_t file_offset, Buffers buffers, Durability) {
  CO_TRY(co_await fill_to(file_offset));
  for (const iovec& vector : buffers) {
    const std::span<const std::byte> bytes(static_cast<const std::byte*>(vector.iov_base),
                                           vector.iov_len);
    CO_TRY(append(bytes));
  }
  co_return Result<void>();
}

Async<void> StreamFile::readv(uint64_t, Buffers) {
  co_return fail(Errc::unsupported, name_ + ": a stream cannot be read back");
}

Async<void> StreamFile::flush() { co_return Result<void>(); }

Result<void> StreamFile::resize(uint64_t size_bytes) {
  final_size_ = size_bytes;
  return {};
}

Result<std::optional<async::FileRange>> StreamFile::next_data(uint64_t, uint64_t) {
  return fail(Errc::unsupported, name_ + ": a stream cannot be searched");
}

Result<void> StreamFile::punch_hole(uint64_t, uint64_t) {
  return fail(Errc::unsupported, name_ + ": a stream has no holes");
}

}  // namespace vhdkit::image
