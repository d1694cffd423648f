#include "image/transfer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image {

using disk::Extent;
using disk::ExtentKind;

namespace {

constexpr uint64_t page_bytes = 4 * KiB;
constexpr uint64_t chunk_bytes = 1 * MiB;
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

// Copies with reads and writes in flight at once; zeroes are found between the two.
class Copier {
 public:
  Copier(disk::BulkWriter& writer, Progress* progress, ConvertReport& report)
      : writer_(writer), progress_(progress), report_(report) {}

  Async<void> run(ReadAhead& reader) {
    while (true) {
      CO_TRY_LET(const Chunk chunk, co_await reader.next());
      if (chunk.length == 0) co_return Result<void>();
      CO_TRY(report_progress(progress_, chunk.disk_offset, writer_.geometry().size_bytes));
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
  Progress* progress_;
  ConvertReport& report_;
};

Async<void> copy_all(disk::LayeredDisk& source, disk::BulkWriter& writer,
                     const ConvertOptions& options, Progress* progress, ConvertReport& report) {
  const uint64_t block = writer.block_size_bytes();
  const ReadAhead::Options read_options{
      .chunk_bytes = block == 0 ? chunk_bytes : std::min(block, chunk_bytes),
      .request_count = options.request_count};
  ReadAhead reader(source, read_options);
  Copier copier(writer, progress, report);
  const auto copied = co_await copier.run(reader);
  const auto closed = co_await reader.close();
  co_return copied ? closed : copied;
}

// Shares extents between files, several neighbouring requests as one.
class Cloner {
 public:
  Cloner(disk::LayeredDisk& source, disk::BulkWriter& writer) : source_(source), writer_(writer) {}

  // Whether the part can be cloned into that place at all: descriptors, alignment.
  bool fits(const Extent& extent, uint64_t target_offset) const {
    return extent.kind == ExtentKind::data && is_aligned(extent.file_offset, page_bytes) &&
           is_aligned(target_offset, page_bytes) && extent.length >= page_bytes &&
           source_.layer(extent.depth).file().descriptor(extent.file_offset, extent.length) >= 0 &&
           writer_.file().descriptor(target_offset, extent.length) >= 0;
  }

  // Clones the extent's whole pages, now or together with later ones.
  Result<void> add(const Extent& extent, uint64_t target_offset) {
    File& file = source_.layer(extent.depth).file();
    const int descriptor = file.descriptor(extent.file_offset, extent.length);
    const uint64_t length = align_down(extent.length, page_bytes);
    const bool continues = request_.src_length > 0 && descriptor == request_.src_fd &&
                           request_.src_offset + request_.src_length == extent.file_offset &&
                           request_.dest_offset + request_.src_length == target_offset;
    if (continues) {
      request_.src_length += length;
      return {};
    }
    TRY(finish());
    request_ = {.src_fd = descriptor,
                .src_offset = extent.file_offset,
                .src_length = length,
                .dest_offset = target_offset};
    return {};
  }

  // Errc::unsupported where the two files cannot share extents.
  Result<void> finish() {
    if (request_.src_length == 0) return {};
    const int target = writer_.file().descriptor(request_.dest_offset, request_.src_length);
    const int result = ioctl(target, FICLONERANGE, &request_);
    const int error = errno;
    request_.src_length = 0;
    if (result == 0) return {};
    const bool cannot = error == EOPNOTSUPP || error == ENOTTY || error == EXDEV || error == EINVAL;
    return fail_errno(cannot ? EOPNOTSUPP : error, writer_.file().name() + ": sharing extents");
  }

 private:
  disk::LayeredDisk& source_;
  disk::BulkWriter& writer_;
  file_clone_range request_{};
};

// Clones part by part; what has no whole pages in common is copied.
class CloneTransfer {
 public:
  CloneTransfer(disk::LayeredDisk& source, disk::BulkWriter& writer, Progress* progress,
                ConvertReport& report)
      : source_(source),
        writer_(writer),
        progress_(progress),
        report_(report),
        cursor_(source),
        probe_(source),
        cloner_(source, writer) {}

  Async<void> run() {
    const uint64_t block = writer_.block_size_bytes();
    const uint64_t step = block == 0 ? longest_part_bytes : block;
    while (true) {
      CO_TRY_LET(const Part part, co_await cursor_.next(step));
      if (part.at_end) break;
      CO_TRY(report_progress(progress_, part.extent.disk_offset, writer_.geometry().size_bytes));
      if (part.extent.kind == ExtentKind::zero) continue;
      CO_TRY(co_await move(part.extent));
    }
    co_return cloner_.finish();
  }

 private:
  Async<void> move(Extent extent) {
    const uint64_t block = writer_.block_size_bytes();
    if (block != 0 && extent.disk_offset / block != placed_block_) {
      CO_TRY_LET(const bool zero, co_await probe_.is_zero(extent));
      if (zero) {
        report_.zero_bytes += extent.length;
        co_return Result<void>();
      }
      placed_block_ = extent.disk_offset / block;
    }
    CO_TRY_LET(const uint64_t target, writer_.place(extent.disk_offset, extent.length));
    uint64_t cloned = 0;
    if (cloner_.fits(extent, target)) {
      CO_TRY(cloner_.add(extent, target));
      cloned = align_down(extent.length, page_bytes);
      report_.cloned_bytes += cloned;
    }
    if (cloned == extent.length) co_return Result<void>();
    extent.disk_offset += cloned;
    extent.file_offset += cloned;
    extent.length -= cloned;
    co_return co_await copy(extent, target + cloned);
  }

  Async<void> copy(Extent extent, uint64_t target_offset) {
    disk::Layer& layer = source_.layer(extent.depth);
    for (uint64_t done = 0; done < extent.length;) {
      bounce_.resize(std::min(chunk_bytes, extent.length - done));
      const std::span<std::byte> piece(bounce_);
      if (extent.kind == ExtentKind::encoded) {
        CO_TRY(co_await layer.read_encoded(extent, extent.disk_offset + done, piece));
      } else {
        CO_TRY(co_await layer.file().read(extent.file_offset + done, piece));
      }
      CO_TRY(co_await writer_.file().write(target_offset + done, piece));
      done += piece.size();
    }
    report_.copied_bytes += extent.length;
    co_return Result<void>();
  }

  disk::LayeredDisk& source_;
  disk::BulkWriter& writer_;
  Progress* progress_;
  ConvertReport& report_;
  ContentCursor cursor_;
  ZeroProbe probe_;
  Cloner cloner_;
  uint64_t placed_block_ = UINT64_MAX;
  std::vector<std::byte> bounce_;
};

// Whether both files lie on one file system: the first condition for sharing extents.
bool may_share_extents(disk::LayeredDisk& source, disk::BulkWriter& writer) {
  struct stat target;
  struct stat origin;
  const int target_descriptor = writer.file().descriptor(0, 0);
  const int source_descriptor = source.layer(0).file().descriptor(0, 0);
  return target_descriptor >= 0 && source_descriptor >= 0 &&
         fstat(target_descriptor, &target) == 0 && fstat(source_descriptor, &origin) == 0 &&
         S_ISREG(origin.st_mode) && target.st_dev == origin.st_dev;
}

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
  if (options.allow_clone && may_share_extents(source, writer)) {
    CloneTransfer clone(source, writer, progress, report);
    const auto cloned = co_await clone.run();
    if (cloned || cloned.error().code != Errc::unsupported) co_return cloned;
    // Places are kept: asking again for a block gives the same one.
    report.cloned_bytes = report.copied_bytes = report.zero_bytes = 0;
  }
  co_return co_await copy_all(source, writer, options, progress, report);
}

Result<void> report_progress(Progress* progress, uint64_t done_bytes, uint64_t total_bytes) {
  if (progress == nullptr) return {};
  progress->update(done_bytes, total_bytes);
  if (progress->cancelled()) return fail(Errc::interrupted, "interrupted");
  return {};
}

}  // namespace vhdkit::image
