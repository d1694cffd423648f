#include "image/convert.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "async/memory_file.h"
#include "image/new_file.h"
#include "image/stream_file.h"
#include "image/transfer.h"
#include "support/bytes.h"
#include "support/checked.h"

namespace vhdkit::image {
namespace {

// One of several passes over the disk, as a part of all of them.
class Pass final : public Progress {
 public:
  Pass(Progress* all, uint64_t done_before, uint64_t total_bytes)
      : all_(all), done_before_(done_before), total_bytes_(total_bytes) {}
  void update(uint64_t done_bytes, uint64_t) override {
    if (all_ != nullptr) all_->update(done_before_ + done_bytes, total_bytes_);
  }
  bool cancelled() const override { return all_ != nullptr && all_->cancelled(); }

 private:
  Progress* all_;
  uint64_t done_before_;
  uint64_t total_bytes_;
};

Result<void> settle_sectors(const disk::Geometry& source, CreateOptions& target) {
  if (target.format == Format::vhdx) {
    if (target.logical_sector_bytes == 0) target.logical_sector_bytes = source.logical_sector_bytes;
    if (target.physical_sector_bytes == 0 && source.logical_sector_bytes == 4096)
      target.physical_sector_bytes = 4096;
  }
  if (target.format == Format::vhd && source.logical_sector_bytes != 512 &&
      target.logical_sector_bytes == 0)
    return fail(
        Errc::invalid_argument,
        "the source has 4096-byte sectors and VHD knows only 512: its guest would not find its "
        "partitions; -o logical_sector_size=512 converts the bytes all the same");
  return {};
}

Result<void> settle_size(const Image& source, uint64_t source_bytes, CreateOptions& target) {
  if (target.size_bytes == 0) {
    const uint64_t sector = std::max<uint64_t>(512, target.logical_sector_bytes);
    const uint64_t unit = target.profile ? disk_size_unit_bytes(*target.profile) : sector;
    target.size_bytes = align_up(source_bytes, std::max(sector, unit));
  }
  if (target.size_bytes == 0)
    return fail(Errc::invalid_argument, source.path() + ": is empty: there is no disk of 0 bytes");
  if (target.size_bytes < source_bytes)
    return fail(Errc::invalid_argument,
                "the target's size of " + std::to_string(target.size_bytes) +
                    " bytes is less than the source's " + std::to_string(source_bytes));
  return {};
}

// The target's options with the source's size and sectors filled in.
Result<CreateOptions> settle_for(Image& source, const ConvertOptions& options) {
  if (options.request_count == 0 || options.request_count > max_request_count)
    return fail(Errc::invalid_argument, std::to_string(options.request_count) +
                                            " requests in flight (-m): it must be 1 to " +
                                            std::to_string(max_request_count));
  CreateOptions target = options.target;
  if (target.parent_path)
    return fail(Errc::invalid_argument, "convert makes whole images; a child is made by create -b");
  const disk::Geometry& geometry = source.disk().geometry();
  TRY(settle_sectors(geometry, target));
  TRY(settle_size(source, geometry.size_bytes, target));
  return settle(target, nullptr);
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
    CO_TRY(co_await bring_chunk(disk_offset));
    if (at_end_) {  // the target is longer than the source
      CO_TRY(stream_.append_zeroes(wanted));
      co_return wanted;
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

  // Reads on until the chunk holds disk_offset.
  Async<void> bring_chunk(uint64_t disk_offset) {
    while (!at_end_ && chunk_.disk_offset + chunk_.length <= disk_offset) {
      CO_TRY_LET(chunk_, co_await reader_.next());
      at_end_ = chunk_.length == 0;
      if (!at_end_) CO_TRY(report_progress(progress_, chunk_.disk_offset, disk_bytes_));
    }
    co_return Result<void>();
  }

  StreamFile& stream_;
  ReadAhead& reader_;
  std::vector<PlacedRun> runs_;
  size_t run_ = 0;
  Chunk chunk_;
  bool at_end_ = false;
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

// Writes the image with its blocks in the places that they have by now.
Async<void> write_stream(StreamFile& stream, disk::BulkWriter& writer, ContentFiller& filler) {
  stream.set_gap_filler(&filler);
  CO_TRY(co_await writer.finish());
  co_return co_await stream.finish();
}

// Files that nobody can open by name, for file systems without O_TMPFILE (NFS, some FUSE).
int open_and_unlink(const std::string& folder) {
  std::string path = folder + "/.vhdkit-XXXXXX";
  const int descriptor = mkostemp(path.data(), O_CLOEXEC);
  if (descriptor >= 0) unlink(path.c_str());
  return descriptor;
}

Result<std::unique_ptr<async::SystemFile>> open_spool(async::Loop& loop,
                                                      const std::string& folder) {
  int spool = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  // EISDIR is what kernels say that do not know the flag.
  if (spool < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) spool = open_and_unlink(folder);
  if (spool < 0) return fail_errno(errno, folder + ": making a file to spool standard input into");
  return async::SystemFile::adopt(loop, spool, "standard input");
}

// Fills the buffer as far as the stream goes, and says how far. A pipe gives little at once.
Result<size_t> read_stream(int descriptor, std::span<std::byte> buffer, uint64_t so_far,
                           Progress* progress) {
  size_t filled = 0;
  while (filled < buffer.size()) {
    TRY(report_progress(progress, so_far + filled, so_far + filled));
    const ssize_t got = ::read(descriptor, buffer.data() + filled, buffer.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      wait_until_ready(descriptor, POLLIN);
      continue;
    }
    if (got < 0) return fail_errno(errno, "standard input: reading");
    if (got == 0) break;
    filled += size_t(got);
  }
  return filled;
}

Async<std::unique_ptr<Image>> spool(async::Loop& loop, int descriptor, const std::string& folder,
                                    Progress* progress) {
  CO_TRY_LET(auto file, open_spool(loop, folder));
  std::vector<std::byte> buffer(1 * MiB);
  uint64_t size = 0;
  while (true) {
    CO_TRY_LET(const size_t got, read_stream(descriptor, buffer, size, progress));
    if (got == 0) break;
    const std::span<const std::byte> bytes = std::span(buffer).first(got);
    if (!is_zero(bytes)) {
      const auto written = co_await file->write(size, bytes);
      CO_TRY(with_context(written, folder + ": spooling"));
    }
    size += got;
  }
  CO_TRY(with_context(file->resize(size), folder + ": spooling"));
  co_return Image::from_raw(std::move(file));
}

// Whether all that the stream will give lies in a file that can be read anywhere. What pretends to
// be an empty file (/proc) gives its content to readers only.
bool is_readable_in_place(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) != 0 || lseek(descriptor, 0, SEEK_CUR) != 0) return false;
  return S_ISBLK(status.st_mode) || (S_ISREG(status.st_mode) && status.st_size > 0);
}

}  // namespace

Async<ConvertReport> convert(async::Loop& loop, Image& source, const std::string& target_path,
                             const ConvertOptions& options, Progress* progress) {
  disk::LayeredDisk& disk = source.disk();
  CO_TRY_LET(const CreateOptions target, settle_for(source, options));
  if (source.contains_file(target_path))
    co_return fail(Errc::invalid_argument,
                   target_path + ": the target is one of the source's files");
  CO_TRY(co_await disk.audit());
  CO_TRY_LET(auto file, NewFile::begin(loop, target_path, options.replace));
  CO_TRY_LET(auto writer, make_writer(file->file(), target, nullptr));
  ConvertReport report;
  CO_TRY(co_await transfer(disk, *writer, options, progress, report));
  CO_TRY(co_await writer->finish());
  // The last moment at which nobody needs to want it.
  CO_TRY(report_progress(progress, target.size_bytes, target.size_bytes));
  CO_TRY(co_await file->commit());
  report.disk_bytes = target.size_bytes;
  report.file_bytes = writer->file_size_bytes();
  co_return report;
}

Async<ConvertReport> convert_to_stream(async::Loop&, Image& source, int descriptor,
                                       const ConvertOptions& options, Progress* progress) {
  disk::LayeredDisk& disk = source.disk();
  CO_TRY_LET(const CreateOptions target, settle_for(source, options));
  CO_TRY(co_await disk.audit());
  StreamFile stream(descriptor, "standard output", progress);
  CO_TRY_LET(auto writer, make_writer(stream, target, nullptr));
  const uint64_t size = target.size_bytes;
  const uint64_t first_pass_bytes = writer->block_size_bytes() == 0 ? 0 : size;
  Pass placing(progress, 0, first_pass_bytes + size);
  Pass writing(progress, first_pass_bytes, first_pass_bytes + size);
  CO_TRY_LET(const std::vector<bool> placed, co_await place_blocks(disk, *writer, &placing));
  CO_TRY_LET(auto runs, placed_runs(*writer, placed));

  ConvertReport report;
  const ReadAhead::Options read_options{.request_count = options.request_count};
  ContentCursor cursor(disk);
  ReadAhead reader(disk, cursor, read_options);
  ContentFiller filler(stream, reader, std::move(runs), &writing, size, report);
  const auto written = co_await write_stream(stream, *writer, filler);
  const auto closed = co_await reader.close();
  CO_TRY(written);
  CO_TRY(closed);
  CO_TRY(report_progress(&writing, size, size));
  report.disk_bytes = size;
  report.file_bytes = writer->file_size_bytes();
  co_return report;
}

Async<Measurement> measure(async::Loop&, Image& source, const ConvertOptions& options,
                           Progress* progress) {
  disk::LayeredDisk& disk = source.disk();
  CO_TRY_LET(const CreateOptions target, settle_for(source, options));
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

Async<std::unique_ptr<Image>> open_stream(async::Loop& loop, int descriptor,
                                          const std::string& folder, Progress* progress) {
  if (!is_readable_in_place(descriptor))
    co_return co_await spool(loop, descriptor, folder, progress);
  const int own = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (own < 0) co_return fail_errno(errno, "standard input");
  CO_TRY_LET(auto file, async::SystemFile::adopt(loop, own, "standard input"));
  const FileIdentity identity = file->identity();
  co_return Image::from_raw(std::move(file), identity);
}

}  // namespace vhdkit::image
