#include "image/gzip_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "async/mutex.h"
#include "image/inflater.h"
#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image {
namespace {

constexpr uint64_t max_content_bytes = 64 * TiB + MiB;
constexpr size_t max_point_count = 256;
constexpr uint64_t least_point_spacing = MiB;
// 8 MiB of memory say for each piece of the largest content whether it is zero.
constexpr uint64_t hole_bytes = MiB;

class GzipFile final : public File {
 public:
  GzipFile(std::unique_ptr<File> compressed, std::unique_ptr<Inflater> inflater)
      : compressed_(std::move(compressed)), inflater_(std::move(inflater)) {}

  // Goes through the whole content, once.
  Async<void> scan();

  const std::string& name() const override { return compressed_->name(); }
  uint64_t size_bytes() const override { return size_bytes_; }
  Async<void> readv(uint64_t file_offset, Buffers buffers) override;
  Async<void> writev(uint64_t, Buffers, Durability) override { co_return read_only(); }
  Async<void> flush() override { co_return Result<void>(); }
  Result<void> resize(uint64_t) override { return read_only(); }
  Result<std::optional<async::FileRange>> next_data(uint64_t file_offset, uint64_t end) override;
  Result<void> punch_hole(uint64_t, uint64_t) override { return read_only(); }
  int descriptor(uint64_t, uint64_t) const override { return -1; }

 private:
  std::unexpected<Error> read_only() const {
    return fail(Errc::read_only, name() + ": a gzip file is open for reading only");
  }
  void note_content(uint64_t offset, std::span<const std::byte> content);
  Result<void> note_restart_point();
  Async<void> read_part(uint64_t file_offset, std::span<std::byte> buffer);
  Async<void> bring(uint64_t file_offset);

  std::unique_ptr<File> compressed_;
  std::unique_ptr<Inflater> inflater_;
  async::Mutex reading_;
  uint64_t size_bytes_ = 0;
  std::vector<RestartPoint> points_;  // ascending; the first is the file's beginning
  uint64_t point_spacing_ = least_point_spacing;
  std::vector<bool> has_data_;  // by piece of hole_bytes
};

Async<void> GzipFile::scan() {
  points_.emplace_back();
  inflater_->stop_at_blocks(true);
  while (!inflater_->ended()) {
    const uint64_t before = inflater_->position();
    CO_TRY(co_await inflater_->step());
    if (inflater_->position() > max_content_bytes)
      co_return fail(Errc::unsupported, fmt::format("{}: gzip: more than {:#x} bytes come out",
                                                    name(), max_content_bytes));
    note_content(before, inflater_->produced());
    CO_TRY(note_restart_point());
  }
  inflater_->stop_at_blocks(false);
  size_bytes_ = inflater_->position();
  co_return Result<void>();
}

void GzipFile::note_content(uint64_t offset, std::span<const std::byte> content) {
  while (!content.empty()) {
    const uint64_t piece = offset / hole_bytes;
    const size_t length = std::min<uint64_t>(content.size(), hole_bytes - offset % hole_bytes);
    if (piece == has_data_.size()) has_data_.push_back(false);
    if (!has_data_[piece]) has_data_[piece] = !is_zero(content.first(length));
    content = content.subspan(length);
    offset += length;
  }
}

// Where there are too many points, every second one goes: they stay evenly apart.
Result<void> GzipFile::note_restart_point() {
  if (!inflater_->at_restart_point()) return {};
  if (inflater_->position() - points_.back().content_offset < point_spacing_) return {};
  if (points_.size() == max_point_count) {
    for (size_t i = 0; i < points_.size() / 2; ++i) points_[i] = std::move(points_[2 * i]);
    points_.resize(points_.size() / 2);
    point_spacing_ *= 2;
    return {};
  }
  TRY_LET(RestartPoint point, inflater_->restart_point());
  points_.push_back(std::move(point));
  return {};
}

Async<void> GzipFile::readv(uint64_t file_offset, Buffers buffers) {
  const async::Mutex::Guard guard = co_await reading_.lock();
  for (const iovec& vector : buffers) {
    if (!range_fits(file_offset, vector.iov_len, size_bytes_))
      co_return fail(Errc::out_of_range,
                     fmt::format("{}: the content ends at {:#x}, before offset {:#x}", name(),
                                 size_bytes_, file_offset + vector.iov_len));
    const std::span<std::byte> buffer(static_cast<std::byte*>(vector.iov_base), vector.iov_len);
    CO_TRY(co_await read_part(file_offset, buffer));
    file_offset += vector.iov_len;
  }
  co_return Result<void>();
}

Async<void> GzipFile::read_part(uint64_t file_offset, std::span<std::byte> buffer) {
  while (!buffer.empty()) {
    CO_TRY(co_await bring(file_offset));
    const size_t length = inflater_->copy(file_offset, buffer);
    buffer = buffer.subspan(length);
    file_offset += length;
  }
  co_return Result<void>();
}

// Unpacks until the inflater keeps the content at file_offset.
Async<void> GzipFile::bring(uint64_t file_offset) {
  if (inflater_->keeps(file_offset)) co_return Result<void>();
  const auto next =
      std::ranges::upper_bound(points_, file_offset, {}, &RestartPoint::content_offset);
  const RestartPoint& nearest = *std::prev(next);
  const uint64_t position = inflater_->position();
  if (file_offset < position || nearest.content_offset > position)
    CO_TRY(co_await inflater_->restart(nearest));
  while (inflater_->position() <= file_offset) {
    if (inflater_->ended())
      co_return fail(Errc::corrupt, name() + ": the gzip file became shorter while it was read");
    CO_TRY(co_await inflater_->step());
  }
  co_return Result<void>();
}

Result<std::optional<async::FileRange>> GzipFile::next_data(uint64_t file_offset, uint64_t end) {
  end = std::min(end, size_bytes_);
  if (file_offset >= end) return std::nullopt;
  const auto at = [this](uint64_t piece) { return has_data_.begin() + ptrdiff_t(piece); };
  const auto first = std::find(at(file_offset / hole_bytes), has_data_.end(), true);
  const auto last = std::find(first, has_data_.end(), false);
  const uint64_t start = std::max(file_offset, uint64_t(first - has_data_.begin()) * hole_bytes);
  if (start >= end) return std::nullopt;
  const uint64_t stop = std::min(end, uint64_t(last - has_data_.begin()) * hole_bytes);
  return async::FileRange{.file_offset = start, .length = stop - start};
}

}  // namespace

Async<std::unique_ptr<File>> open_gzip_file(std::unique_ptr<File> compressed) {
  CO_TRY_LET(std::unique_ptr<Inflater> inflater, Inflater::create(*compressed));
  auto file = std::make_unique<GzipFile>(std::move(compressed), std::move(inflater));
  CO_TRY(co_await file->scan());
  std::unique_ptr<File> result = std::move(file);
  co_return result;
}

}  // namespace vhdkit::image
