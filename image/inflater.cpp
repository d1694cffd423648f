#include "image/inflater.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>

#include "support/checked.h"

namespace vhdkit::image {
namespace {

constexpr size_t input_bytes = 128 * KiB;
constexpr size_t ring_bytes = 4 * MiB;
constexpr size_t step_bytes = 256 * KiB;
constexpr size_t window_bytes = 32 * KiB;
// A member's CRC-32 and length. RFC 1952 2.3.
constexpr uint64_t member_trailer_bytes = 8;
// zlib's names for the formats it reads.
constexpr int raw_deflate = -MAX_WBITS;
constexpr int gzip = 16 + MAX_WBITS;

}  // namespace

Inflater::Inflater(File& compressed)
    : compressed_(compressed), input_(input_bytes), ring_(ring_bytes) {}

Inflater::~Inflater() { inflateEnd(&stream_); }

Result<std::unique_ptr<Inflater>> Inflater::create(File& compressed) {
  std::unique_ptr<Inflater> inflater(new Inflater(compressed));
  if (inflateInit2(&inflater->stream_, gzip) != Z_OK)
    return fail(Errc::no_space, compressed.name() + ": zlib gets no memory");
  return inflater;
}

std::unexpected<Error> Inflater::corrupt(std::string_view what) const {
  return fail(Errc::corrupt, fmt::format("{}: gzip member at offset {:#x}: {} at offset {:#x}",
                                         compressed_.name(), member_offset_, what, input_offset()));
}

Async<void> Inflater::fill() {
  const uint64_t left = compressed_.size_bytes() - input_end_;
  const std::span<std::byte> piece =
      std::span(input_).first(std::min<uint64_t>(left, input_.size()));
  if (piece.empty()) co_return Result<void>();
  CO_TRY(co_await compressed_.read(input_end_, piece));
  input_end_ += piece.size();
  stream_.next_in = reinterpret_cast<Bytef*>(piece.data());
  stream_.avail_in = uInt(piece.size());
  co_return Result<void>();
}

Async<void> Inflater::step() {
  assert(!ended_);
  produced_ = {};
  if (stream_.avail_in == 0) CO_TRY(co_await fill());
  if (between_members_) co_return skip_to_member();
  if (stream_.avail_in == 0) co_return corrupt("the file ends inside it,");
  co_return unpack();
}

// Skips what may stand between two members, and ends where the file does.
Result<void> Inflater::skip_to_member() {
  if (stream_.avail_in == 0) {
    if (trailer_bytes_ > 0) return corrupt("the file ends inside its trailer,");
    if (input_end_ == 0) return corrupt("the file is empty,");
    ended_ = true;
    return {};
  }
  const auto skip = [this](uint64_t length) {
    stream_.next_in += length;
    stream_.avail_in -= uInt(length);
  };
  const uint64_t trailer = std::min<uint64_t>(trailer_bytes_, stream_.avail_in);
  skip(trailer);
  trailer_bytes_ -= trailer;
  if (trailer > 0) return {};
  const bool is_first = input_offset() == 0;
  const Bytef* const end = stream_.next_in + stream_.avail_in;
  const Bytef* const next = is_first ? stream_.next_in
                                     : std::find_if(static_cast<const Bytef*>(stream_.next_in), end,
                                                    [](Bytef byte) { return byte != 0; });
  skip(uint64_t(next - stream_.next_in));
  return next == end ? Result<void>() : begin_member();
}

Result<void> Inflater::begin_member() {
  if (inflateReset2(&stream_, gzip) != Z_OK)
    return fail(Errc::no_space, compressed_.name() + ": zlib gets no memory");
  member_offset_ = input_offset();
  between_members_ = false;
  at_header_ = true;
  return {};
}

Result<void> Inflater::unpack() {
  const size_t ring_offset = position_ % ring_.size();
  const size_t room = std::min(step_bytes, ring_.size() - ring_offset);
  const uInt input_before = stream_.avail_in;
  stream_.next_out = reinterpret_cast<Bytef*>(ring_.data() + ring_offset);
  stream_.avail_out = uInt(room);
  const int result = inflate(&stream_, flush_);
  produced_ = std::span(ring_).subspan(ring_offset, room - stream_.avail_out);
  position_ += produced_.size();
  at_header_ = false;
  if (result == Z_STREAM_END) {
    end_member();
    return {};
  }
  const bool moved = !produced_.empty() || stream_.avail_in != input_before;
  if (result == Z_OK && moved) return {};
  if (result == Z_MEM_ERROR)
    return fail(Errc::no_space, compressed_.name() + ": zlib gets no memory");
  return corrupt(stream_.msg != nullptr ? stream_.msg : "invalid deflate data");
}

void Inflater::end_member() {
  between_members_ = true;
  trailer_bytes_ = raw_ ? member_trailer_bytes : 0;
  raw_ = false;
}

bool Inflater::at_restart_point() const {
  if (between_members_) return false;
  if (at_header_) return true;
  constexpr int at_block_end = 128;
  constexpr int in_last_block = 64;
  return (stream_.data_type & at_block_end) != 0 && (stream_.data_type & in_last_block) == 0;
}

Result<RestartPoint> Inflater::restart_point() {
  RestartPoint point;
  point.content_offset = position_;
  point.file_offset = input_offset();
  if (at_header_) return point;
  point.at_member = false;
  point.unused_bits = unsigned(stream_.data_type) & 7;
  point.window.resize(window_bytes);
  uInt length = 0;
  inflateGetDictionary(&stream_, reinterpret_cast<Bytef*>(point.window.data()), &length);
  point.window.resize(length);
  point.window.shrink_to_fit();
  return point;
}

Async<void> Inflater::restart(const RestartPoint& point) {
  stream_.avail_in = 0;
  produced_ = {};
  // Until all is in place nothing is kept: whoever tries again after an error restarts again.
  position_ = UINT64_MAX;
  restarted_at_ = UINT64_MAX;
  trailer_bytes_ = 0;
  ended_ = false;
  input_end_ = point.file_offset - (point.unused_bits > 0 ? 1 : 0);
  between_members_ = point.at_member;
  raw_ = !point.at_member;
  at_header_ = false;
  if (raw_) CO_TRY(co_await enter_block(point));
  position_ = point.content_offset;
  restarted_at_ = point.content_offset;
  co_return Result<void>();
}

Async<void> Inflater::enter_block(const RestartPoint& point) {
  if (inflateReset2(&stream_, raw_deflate) != Z_OK)
    co_return fail(Errc::no_space, compressed_.name() + ": zlib gets no memory");
  if (point.unused_bits > 0) {
    CO_TRY(co_await fill());
    const int byte = *stream_.next_in++;
    --stream_.avail_in;
    inflatePrime(&stream_, int(point.unused_bits), byte >> (8 - point.unused_bits));
  }
  inflateSetDictionary(&stream_, reinterpret_cast<const Bytef*>(point.window.data()),
                       uInt(point.window.size()));
  co_return Result<void>();
}

uint64_t Inflater::kept_start() const {
  const uint64_t overwritten = position_ > ring_.size() ? position_ - ring_.size() : 0;
  return std::max(restarted_at_, overwritten);
}

bool Inflater::keeps(uint64_t content_offset) const {
  return content_offset >= kept_start() && content_offset < position_;
}

size_t Inflater::copy(uint64_t content_offset, std::span<std::byte> buffer) const {
  assert(keeps(content_offset));
  const size_t ring_offset = content_offset % ring_.size();
  const size_t length =
      std::min<uint64_t>({buffer.size(), position_ - content_offset, ring_.size() - ring_offset});
  std::memcpy(buffer.data(), ring_.data() + ring_offset, length);
  return length;
}

}  // namespace vhdkit::image
