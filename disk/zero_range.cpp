#include "disk/zero_range.h"

#include <algorithm>
#include <vector>

#include "support/checked.h"

namespace vhdkit::disk {
namespace {

constexpr uint64_t piece_bytes = 256 * KiB;

}  // namespace

Async<void> zero_range(File& file, uint64_t file_offset, uint64_t length) {
  if (length == 0) co_return Result<void>();
  if (auto punched = file.punch_hole(file_offset, length);
      punched || punched.error().code != Errc::unsupported)
    co_return punched;
  const std::vector<std::byte> zeroes(std::min(length, piece_bytes));
  for (uint64_t done = 0; done < length;) {
    const auto piece = std::span(zeroes).first(std::min<uint64_t>(zeroes.size(), length - done));
    CO_TRY(co_await file.write(file_offset + done, piece));
    done += piece.size();
  }
  co_return Result<void>();
}

}  // namespace vhdkit::disk
