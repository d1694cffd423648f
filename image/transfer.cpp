#include "image/transfer.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image {

using disk::Extent;
using disk::ExtentKind;

namespace {

constexpr uint64_t page_bytes = 4 * KiB;
// Small enough to stay in the cache between its read, the search for zeroes and its write.
constexpr uint64_t chunk_bytes = 256 * KiB;
constexpr uint64_t probe_bytes = 64 * KiB;
// A shorter run of zeroes is written: one more request costs more than its bytes.
constexpr uint64_t min_hole_bytes = 16 * KiB;
// How much of the disk is walked between two looks at the progress when nothing is read.
constexpr uint64_t longest_part_bytes = 256 * MiB;

struct Run {
  size_t start;
  size_t length;
};

// The next run of bytes worth writing at or after `from`; length 0 where only zeroes are left.
// Looks at whole pages of the disk, so that holes fall on the pages of the target.
Run next_run(std::span<const std::byte> bytes, uint64_t disk_offset, size_t from) {
  size_t start = bytes.size();
  size_t end = from;
  while (from < bytes.size()) {
    const size_t to_page_end = page_bytes - (disk_offset + from) % page_bytes;
    const size_t length = std::min(to_page_end, bytes.size() - from);
    if (!is_zero(bytes.subspan(from, length))) {
      start = std::min(start, from);
      end = from + length;
    } else if (start < bytes.size() && from + length - end >= min_hole_bytes) {
      break;
    }
    from += length;
  }
  return start < bytes.size() ? Run{start, end - start} : Run{bytes.size(), 0};
}

// Hands on what is to be copied, and clones the rest on the way.
class CloningSource final : public PartSource {
 public:
  CloningSource(disk::LayeredDisk& source, disk::BulkWriter& writer, bool allow_clone,
                Progress* progress, ConvertReport& report)
      : source_(source),
        writer_(writer),
        progress_(progress),
        report_(report),
        cursor_(source),
        probe_(source),
        may_clone_(source.layer_count(), allow_clone),
        step_(writer.block_size_bytes() != 0 ? writer.block_size_bytes() : longest_part_bytes) {}

  Async<Part> next(uint64_t max_bytes) override {
    while (rest_.length == 0) {
      CO_TRY_LET(const Part part, co_await cursor_.next(step_));
      if (part.at_end) co_return part;
      rest_ = part.extent;
      CO_TRY(report_progress(progress_, rest_.disk_offset, writer_.geometry().size_bytes));
      if (may_be_cloned()) CO_TRY(co_await clone());
    }
    CO_TRY(report_progress(progress_, rest_.disk_offset, writer_.geometry().size_bytes));
    co_return Part{.extent = take_front(rest_, max_bytes)};
  }

 private:
  bool may_be_cloned() const {
    return rest_.kind == ExtentKind::data && may_clone_[rest_.depth] &&
           is_aligned(rest_.file_offset, page_bytes) && rest_.length >= page_bytes;
  }

  // Takes the whole pages off rest_. All of it where a block would be made for zeroes only.
  Async<void> clone() {
    const uint64_t block = writer_.block_size_bytes();
    if (block != 0 && rest_.disk_offset / block != placed_block_) {
      CO_TRY_LET(const bool zero, co_await probe_.is_zero(rest_));
      if (zero) {
        report_.zero_bytes += rest_.length;
        take(rest_.length);
        co_return Result<void>();
      }
      placed_block_ = rest_.disk_offset / block;
    }
    const uint64_t length = align_down(rest_.length, page_bytes);
    CO_TRY_LET(const uint64_t target, writer_.place(rest_.disk_offset, rest_.length));
    if (!is_aligned(target, page_bytes)) co_return Result<void>();
    // Whatever kept it from being cloned, copying gets over it or says it better.
    may_clone_[rest_.depth] = share(target, length);
    if (!may_clone_[rest_.depth]) co_return Result<void>();
    report_.cloned_bytes += length;
    take(length);
    co_return Result<void>();
  }

  bool share(uint64_t target_offset, uint64_t length) {
    const int from = source_.layer(rest_.depth).file().descriptor(rest_.file_offset, length);
    const int to = writer_.file().descriptor(target_offset, length);
    if (from < 0 || to < 0) return false;
    file_clone_range range{.src_fd = from,
                           .src_offset = rest_.file_offset,
                           .src_length = length,
                           .dest_offset = target_offset};
    return ioctl(to, FICLONERANGE, &range) == 0;
  }

  void take(uint64_t length) {
    rest_.disk_offset += length;
    rest_.file_offset += length;
    rest_.length -= length;
  }

  disk::LayeredDisk& source_;
  disk::BulkWriter& writer_;
  Progress* progress_;
  ConvertReport& report_;
  ContentCursor cursor_;
  ZeroProbe probe_;
  std::vector<bool> may_clone_;  // by depth: until the first attempt failed
  uint64_t step_;
  uint64_t placed_block_ = UINT64_MAX;
  Extent rest_{.disk_offset = 0, .length = 0, .kind = ExtentKind::zero};
};

// Copies with reads and writes in flight at once; zeroes are found between the two.
class Copier {
 public:
  Copier(disk::BulkWriter& writer, ConvertReport& report) : writer_(writer), report_(report) {}

  Async<void> run(ReadAhead& reader) {
    while (true) {
      CO_TRY_LET(const Chunk chunk, co_await reader.next());
      if (chunk.length == 0) co_return Result<void>();
      CO_TRY(start_writes(chunk));
    }
  }

 private:
  Result<void> start_writes(const Chunk& chunk) {
    size_t written = 0;
    for (size_t at = 0; at < chunk.bytes.size();) {
      const Run run = next_run(chunk.bytes, chunk.disk_offset, at);
      if (run.length == 0) break;
      TRY_LET(const uint64_t file_offset, writer_.place(chunk.disk_offset + run.start, run.length));
      const std::span<const std::byte> bytes = chunk.bytes.subspan(run.start, run.length);
      chunk.users->start(writer_.file().write(file_offset, bytes));
      written += run.length;
      at = run.start + run.length;
    }
    report_.copied_bytes += written;
    report_.zero_bytes += chunk.bytes.size() - written;
    return {};
  }

  disk::BulkWriter& writer_;
  ConvertReport& report_;
};

}  // namespace

ZeroProbe::ZeroProbe(disk::LayeredDisk& disk) : disk_(disk), buffer_(probe_bytes) {}

Async<bool> ZeroProbe::is_zero(Extent extent) {
  disk::Layer& layer = disk_.layer(extent.depth);
  for (uint64_t done = 0; done < extent.length;) {
    const uint64_t length = std::min(probe_bytes, extent.length - done);
    const std::span<std::byte> piece(buffer_.data(), length);
    if (extent.kind == ExtentKind::encoded) {
      CO_TRY(co_await layer.read_encoded(extent, extent.disk_offset + done, piece));
    } else {
      CO_TRY(co_await layer.file().read(extent.file_offset + done, piece));
    }
    if (!vhdkit::is_zero(piece)) co_return false;
    done += length;
  }
  co_return true;
}

Async<std::vector<bool>> place_blocks(disk::LayeredDisk& source, disk::BulkWriter& writer,
                                      Progress* progress) {
  const uint64_t disk_bytes = writer.geometry().size_bytes;
  const uint64_t block = writer.block_size_bytes();
  if (block == 0) co_return std::vector<bool>(1, true);
  std::vector<bool> placed(ceil_div(disk_bytes, block));
  ContentCursor cursor(source);
  ZeroProbe probe(source);
  while (true) {
    CO_TRY_LET(const Part part, co_await cursor.next(block));
    if (part.at_end) co_return placed;
    const Extent& extent = part.extent;
    CO_TRY(report_progress(progress, extent.disk_offset, disk_bytes));
    if (extent.kind == ExtentKind::zero || placed[extent.disk_offset / block]) continue;
    CO_TRY_LET(const bool zero, co_await probe.is_zero(extent));
    if (zero) continue;
    CO_TRY(writer.place(extent.disk_offset, extent.length));
    placed[extent.disk_offset / block] = true;
  }
}

Async<void> transfer(disk::LayeredDisk& source, disk::BulkWriter& writer,
                     const ConvertOptions& options, Progress* progress, ConvertReport& report) {
  const uint64_t block = writer.block_size_bytes();
  const ReadAhead::Options read_options{
      .chunk_bytes = block == 0 ? chunk_bytes : std::min(block, chunk_bytes),
      .request_count = options.request_count};
  CloningSource parts(source, writer, options.allow_clone, progress, report);
  ReadAhead reader(source, parts, read_options);
  Copier copier(writer, report);
  const auto copied = co_await copier.run(reader);
  const auto closed = co_await reader.close();
  co_return copied ? closed : copied;
}

Result<void> report_progress(Progress* progress, uint64_t done_bytes, uint64_t total_bytes) {
  if (progress == nullptr) return {};
  progress->update(done_bytes, total_bytes);
  if (progress->cancelled()) return fail(Errc::interrupted, "interrupted");
  return {};
}

}  // namespace vhdkit::image
