#include "image/convert.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "async/memory_file.h"
#include "disk/raw_layer.h"
#include "image/new_file.h"
#include "image/stream_file.h"
#include "image/transfer.h"
#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image {
namespace {

// The target's options with the source's size and sectors filled in.
Result<CreateOptions> settle_for(disk::LayeredDisk& source, const ConvertOptions& options) {
  CreateOptions target = options.target;
  const disk::Geometry& geometry = source.geometry();
  if (target.parent_path)
    return fail(Errc::invalid_argument, "convert makes whole images; a child is made by create -b");
  if (target.format == Format::vhdx) {
    if (target.logical_sector_bytes == 0)
      target.logical_sector_bytes = geometry.logical_sector_bytes;
    if (target.physical_sector_bytes == 0 && geometry.logical_sector_bytes == 4096)
      target.physical_sector_bytes = 4096;
  }
  const uint32_t target_sector =
      target.logical_sector_bytes != 0 ? target.logical_sector_bytes : 512;
  if (target.format == Format::vhd && geometry.logical_sector_bytes != target_sector &&
      target.logical_sector_bytes == 0)
    return fail(
        Errc::invalid_argument,
        "the source has 4096-byte sectors and VHD knows only 512: its guest would not find its "
        "partitions; -o logical_sector_size=512 converts the bytes all the same");
  if (target.size_bytes == 0) target.size_bytes = align_up(geometry.size_bytes, target_sector);
  if (target.size_bytes < geometry.size_bytes)
    return fail(Errc::invalid_argument,
                "the target's size of " + std::to_string(target.size_bytes) +
                    " bytes is less than the source's " + std::to_string(geometry.size_bytes));
  return settle(target, nullptr);
}

Result<void> refuse_source_as_target(const Image& source, const std::string& target_path) {
  struct stat target;
  if (stat(target_path.c_str(), &target) != 0) return {};
  for (const ChainLink& link : source.links()) {
    struct stat origin;
    if (stat(link.path.c_str(), &origin) == 0 && origin.st_dev == target.st_dev &&
        origin.st_ino == target.st_ino)
      return fail(Errc::invalid_argument,
                  target_path + ": the target is a source (" + link.path + ")");
  }
  return {};
}

// Where the guest's bytes lie in the stream: block after block, in guest order.
struct PlacedRun {
  uint64_t file_offset;
  uint64_t disk_offset;
  uint64_t length;
};

// Puts the disk's content between the pieces of metadata that the writer of a stream leaves apart.
class ContentFiller final : public GapFiller {
 public:
  ContentFiller(StreamFile& stream, ReadAhead& reader, std::vector<PlacedRun> runs,
                Progress* progress, uint64_t disk_bytes, ConvertReport& report)
      : stream_(stream),
        reader_(reader),
        runs_(std::move(runs)),
        progress_(progress),
        disk_bytes_(disk_bytes),
        report_(report) {}

  Async<void> fill(uint64_t file_offset, uint64_t length) override {
    const uint64_t end = file_offset + length;
    while (file_offset < end) {
      while (run_ < runs_.size() && runs_[run_].file_offset + runs_[run_].length <= file_offset)
        ++run_;
      const uint64_t run_start = run_ < runs_.size() ? runs_[run_].file_offset : end;
      if (file_offset < run_start) {
        const uint64_t gap = std::min(run_start, end) - file_offset;
        CO_TRY(stream_.append_zeroes(gap));
        file_offset += gap;
        continue;
      }
      const PlacedRun& run = runs_[run_];
      const uint64_t disk_offset = run.disk_offset + (file_offset - run.file_offset);
      const uint64_t wanted = std::min(end, run.file_offset + run.length) - file_offset;
      CO_TRY_LET(const uint64_t got, co_await append_content(disk_offset, wanted));
      file_offset += got;
    }
    co_return Result<void>();
  }

 private:
  // Appends up to wanted bytes of the disk, and says how many.
  Async<uint64_t> append_content(uint64_t disk_offset, uint64_t wanted) {
    while (chunk_.disk_offset + chunk_.length <= disk_offset) {
      CO_TRY_LET(chunk_, co_await reader_.next());
      CO_TRY(report_progress(progress_, chunk_.disk_offset, disk_bytes_));
      if (chunk_.length == 0) {  // the target is longer than the source
        CO_TRY(stream_.append_zeroes(wanted));
        co_return wanted;
      }
    }
    const uint64_t in_chunk = disk_offset - chunk_.disk_offset;
    const uint64_t length = std::min(wanted, chunk_.length - in_chunk);
    if (chunk_.bytes.empty()) {
      CO_TRY(stream_.append_zeroes(length));
    } else {
      CO_TRY(stream_.append(chunk_.bytes.subspan(in_chunk, length)));
      report_.copied_bytes += length;
    }
    co_return length;
  }

  StreamFile& stream_;
  ReadAhead& reader_;
  std::vector<PlacedRun> runs_;
  size_t run_ = 0;
  Chunk chunk_;
  Progress* progress_;
  uint64_t disk_bytes_;
  ConvertReport& report_;
};

// The places that place_blocks() gave, found by asking again; neighbours merged.
Result<std::vector<PlacedRun>> placed_runs(disk::BulkWriter& writer,
                                           const std::vector<bool>& placed) {
  std::vector<PlacedRun> runs;
  const uint64_t size = writer.geometry().size_bytes;
  const uint64_t block = writer.block_size_bytes() == 0 ? size : writer.block_size_bytes();
  for (size_t i = 0; i < placed.size(); ++i) {
    if (!placed[i]) continue;
    const uint64_t disk_offset = i * block;
    const uint64_t length = std::min(block, size - disk_offset);
    TRY_LET(const uint64_t file_offset, writer.place(disk_offset, length));
    const bool continues = !runs.empty() &&
                           runs.back().disk_offset + runs.back().length == disk_offset &&
                           runs.back().file_offset + runs.back().length == file_offset;
    if (continues) {
      runs.back().length += length;
    } else {
      runs.push_back({file_offset, disk_offset, length});
    }
  }
  return runs;
}

}  // namespace

Async<ConvertReport> convert(async::Loop& loop, Image& source, const std::string& target_path,
                             const ConvertOptions& options, Progress* progress) {
  disk::LayeredDisk& disk = source.disk();
  CO_TRY_LET(const CreateOptions target, settle_for(disk, options));
  CO_TRY(refuse_source_as_target(source, target_path));
  CO_TRY(co_await disk.audit());
  CO_TRY_LET(auto file, NewFile::begin(loop, target_path, options.replace));
  CO_TRY_LET(auto writer, make_writer(file->file(), target, nullptr));
  ConvertReport report;
  CO_TRY(co_await transfer(disk, *writer, options, progress, report));
  CO_TRY(co_await writer->finish());
  CO_TRY(co_await file->commit());
  report.disk_bytes = target.size_bytes;
  report.file_bytes = writer->file_size_bytes();
  CO_TRY(report_progress(progress, report.disk_bytes, report.disk_bytes));
  co_return report;
}

Async<ConvertReport> convert_to_stream(async::Loop&, Image& source, int descriptor,
                                       const ConvertOptions& options, Progress* progress) {
  disk::LayeredDisk& disk = source.disk();
  CO_TRY_LET(const CreateOptions target, settle_for(disk, options));
  CO_TRY(co_await disk.audit());
  StreamFile stream(descriptor, "standard output");
  CO_TRY_LET(auto writer, make_writer(stream, target, nullptr));
  CO_TRY_LET(const std::vector<bool> placed, co_await place_blocks(disk, *writer, nullptr));
  CO_TRY_LET(auto runs, placed_runs(*writer, placed));

  ConvertReport report;
  const ReadAhead::Options read_options{.request_count = options.request_count};
  ContentCursor cursor(disk);
  ReadAhead reader(disk, cursor, read_options);
  ContentFiller filler(stream, reader, std::move(runs), progress, target.size_bytes, report);
  stream.set_gap_filler(&filler);
  auto written = co_await writer->finish();
  if (written) written = co_await stream.finish();
  const auto closed = co_await reader.close();
  CO_TRY(written);
  CO_TRY(closed);
  report.disk_bytes = target.size_bytes;
  report.file_bytes = writer->file_size_bytes();
  co_return report;
}

Async<Measurement> measure(async::Loop&, Image& source, const ConvertOptions& options,
                           Progress* progress) {
  disk::LayeredDisk& disk = source.disk();
  CO_TRY_LET(const CreateOptions target, settle_for(disk, options));
  CO_TRY(co_await disk.audit());
  async::MemoryFile nowhere("measurement");
  CO_TRY_LET(auto writer, make_writer(nowhere, target, nullptr));
  CO_TRY(co_await place_blocks(disk, *writer, progress));
  Measurement measurement{.required_bytes = writer->file_size_bytes()};
  measurement.fully_allocated_bytes = measurement.required_bytes;
  const uint64_t block = writer->block_size_bytes();
  if (block == 0) co_return measurement;

  // Every block takes the same room, so two of them tell what all take.
  CO_TRY_LET(auto sample, make_writer(nowhere, target, nullptr));
  const uint64_t block_count = ceil_div(target.size_bytes, block);
  CO_TRY(sample->place(0, 1));
  const uint64_t with_one = sample->file_size_bytes();
  if (block_count > 1) CO_TRY(sample->place(block, 1));
  const uint64_t stride = sample->file_size_bytes() - with_one;
  measurement.fully_allocated_bytes = with_one + (block_count - 1) * stride;
  co_return measurement;
}

Async<std::unique_ptr<Image>> spool_stream(async::Loop& loop, int descriptor,
                                           const std::string& folder, Progress* progress) {
  const int spool = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (spool < 0) co_return fail_errno(errno, folder + ": opening a file to spool standard input");
  std::vector<std::byte> buffer(1 * MiB);
  uint64_t size = 0;
  CO_TRY_LET(auto file, async::SystemFile::adopt(loop, spool, "standard input"));
  while (true) {
    const ssize_t got = ::read(descriptor, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) co_return fail_errno(errno, "standard input: reading");
    if (got == 0) break;
    const std::span<const std::byte> bytes(buffer.data(), size_t(got));
    if (!is_zero(bytes)) CO_TRY(co_await file->write(size, bytes));
    size += uint64_t(got);
    CO_TRY(report_progress(progress, size, size));
  }
  CO_TRY(file->resize(size));
  co_return Image::from_raw(std::move(file));
}

}  // namespace vhdkit::image
