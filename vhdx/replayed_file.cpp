#include "vhdx/replayed_file.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "disk/buffer_cutter.h"
#include "disk/disk.h"

namespace vhdkit::vhdx {
namespace {

// Puts bytes at `place`, where the buffers, which begin at buffers_offset, have them.
void overwrite(Buffers buffers, uint64_t buffers_offset, std::span<const std::byte> bytes,
               uint64_t place) {
  for (const iovec& vector : buffers) {
    const uint64_t begin = std::max(buffers_offset, place);
    const uint64_t end = std::min(buffers_offset + vector.iov_len, place + bytes.size());
    if (begin < end)
      std::memcpy(static_cast<std::byte*>(vector.iov_base) + (begin - buffers_offset),
                  bytes.data() + (begin - place), end - begin);
    buffers_offset += vector.iov_len;
  }
}

std::unexpected<Error> refuse_change(const std::string& name) {
  return fail(Errc::read_only, name + ": replayed in memory, for reading only");
}

}  // namespace

ReplayedFile::Run ReplayedFile::run_at(uint64_t file_offset, uint64_t end) const {
  const auto next = plan_.updates.ending_after(file_offset);
  if (next != plan_.updates.end() && next->first <= file_offset)
    return {.end = std::min(end, next->first + next->second.length),
            .source = next->second.is_data ? Source::data : Source::zero,
            .update_offset = next->first,
            .update = &next->second};
  if (next != plan_.updates.end()) end = std::min(end, next->first);
  if (file_offset >= base_.size_bytes()) return {.end = end, .source = Source::zero};
  return {.end = std::min(end, base_.size_bytes()), .source = Source::base};
}

Async<void> ReplayedFile::readv(uint64_t file_offset, Buffers buffers) {
  const uint64_t length = total_bytes(buffers);
  if (!range_fits(file_offset, length, size_bytes()))
    co_return fail(Errc::out_of_range, name() + ": the file ends before offset " +
                                           std::to_string(file_offset + length));
  const uint64_t end = file_offset + length;
  disk::BufferCutter cutter(buffers);
  while (file_offset < end) {
    const Run run = run_at(file_offset, end);
    if (run.end - file_offset == length) co_return co_await read_run(run, file_offset, buffers);
    const std::vector<iovec> part = cutter.next(run.end - file_offset);
    CO_TRY(co_await read_run(run, file_offset, part));
    file_offset = run.end;
  }
  co_return Result<void>();
}

Async<void> ReplayedFile::read_run(const Run& run, uint64_t file_offset, Buffers buffers) {
  switch (run.source) {
    case Source::base:
      co_return co_await base_.readv(file_offset, buffers);
    case Source::zero:
      disk::fill_zero(buffers);
      co_return Result<void>();
    case Source::data: {
      // [MS-VHDX] 2.3.1.4: the sector's bytes 8 to 4091 are the update's own.
      const uint64_t in_sector = file_offset - run.update_offset;
      CO_TRY(co_await base_.readv(run.update->sector_offset + in_sector, buffers));
      overwrite(buffers, in_sector, run.update->leading_bytes, 0);
      overwrite(buffers, in_sector, run.update->trailing_bytes,
                log_sector_bytes - run.update->trailing_bytes.size());
      co_return Result<void>();
    }
  }
  __builtin_unreachable();
}

Async<void> ReplayedFile::writev(uint64_t, Buffers, Durability) { co_return refuse_change(name()); }
Async<void> ReplayedFile::flush() { co_return Result<void>(); }
Result<void> ReplayedFile::resize(uint64_t) { return refuse_change(name()); }
Result<void> ReplayedFile::punch_hole(uint64_t, uint64_t) { return refuse_change(name()); }

// As run_at, with the base's holes told apart as zeroes.
Result<ReplayedFile::Run> ReplayedFile::run_without_holes(uint64_t file_offset, uint64_t end) {
  const Run run = run_at(file_offset, end);
  if (run.source != Source::base) return run;
  TRY_LET(const auto data, base_.next_data(file_offset, run.end));
  if (!data) return Run{.end = run.end, .source = Source::zero};
  if (data->file_offset > file_offset) return Run{.end = data->file_offset, .source = Source::zero};
  return Run{.end = data->file_offset + data->length, .source = Source::base};
}

Result<std::optional<async::FileRange>> ReplayedFile::next_data(uint64_t file_offset,
                                                                uint64_t end) {
  end = std::min(end, size_bytes());
  std::optional<uint64_t> begin;
  while (file_offset < end) {
    TRY_LET(const Run run, run_without_holes(file_offset, end));
    if (run.source != Source::zero && !begin) begin = file_offset;
    if (run.source == Source::zero && begin) break;
    file_offset = run.end;
  }
  if (!begin) return std::nullopt;
  return async::FileRange{*begin, file_offset - *begin};
}

int ReplayedFile::descriptor(uint64_t file_offset, uint64_t length) const {
  if (length == 0 || !range_fits(file_offset, length, base_.size_bytes())) return -1;
  const Run run = run_at(file_offset, file_offset + length);
  if (run.source != Source::base || run.end != file_offset + length) return -1;
  return base_.descriptor(file_offset, length);
}

Async<std::unique_ptr<File>> replay_in_memory(std::unique_ptr<File> file,
                                              const FileHeader& header) {
  if (header.log_is_empty()) co_return std::move(file);
  CO_TRY_LET(const LogContent content, co_await read_log(*file, header));
  CO_TRY_LET(ReplayPlan plan, plan_replay(*file, header, content));
  co_return std::unique_ptr<File>(std::make_unique<ReplayedFile>(std::move(file), std::move(plan)));
}

}  // namespace vhdkit::vhdx
