#include "vhdx/replay.h"

#include <algorithm>
#include <vector>

#include "vhdx/headers.h"
#include "vhdx/log.h"
#include "vhdx/region_table.h"
#include "vhdx/replayed_file.h"

namespace vhdkit::vhdx {
namespace {

constexpr size_t piece_bytes = 1 * MiB;

// [MS-VHDX] 2.2.2: the first change of a session.
Async<void> begin_session(File& file, FoundHeaders& headers) {
  CO_TRY(check_sequence_room(file, headers));
  headers.current.file_write_guid = Guid::random();
  co_return co_await write_headers(file, headers);
}

Async<void> write_zeroes(File& file, uint64_t file_offset, uint64_t length) {
  const uint64_t end = file_offset + length;
  const std::vector<std::byte> zeroes(std::min<uint64_t>(length, piece_bytes));
  while (file_offset < end) {
    CO_TRY_LET(const auto data, file.next_data(file_offset, end));
    if (!data) break;
    const std::span<const std::byte> piece(zeroes.data(),
                                           std::min<uint64_t>(data->length, zeroes.size()));
    CO_TRY(co_await file.write(data->file_offset, piece));
    file_offset = data->file_offset + piece.size();
  }
  co_return Result<void>();
}

// Makes the file what the overlay shows.
Async<void> write_updates(File& file, ReplayPlan plan) {
  ReplayedFile replayed(file, std::move(plan));
  if (replayed.size_bytes() > file.size_bytes()) CO_TRY(file.resize(replayed.size_bytes()));
  std::array<std::byte, log_sector_bytes> sector;
  const std::span<std::byte> buffer(sector);
  for (const auto& [file_offset, update] : replayed.plan().updates) {
    if (!update.is_data) {
      CO_TRY(co_await write_zeroes(file, file_offset, update.length));
      continue;
    }
    CO_TRY(co_await replayed.read(file_offset, buffer));
    CO_TRY(co_await file.write(file_offset, buffer));
  }
  co_return co_await file.flush();
}

Async<void> copy_region_table(File& file, unsigned good_index) {
  std::vector<std::byte> table(region_table_bytes);
  const std::span<std::byte> buffer(table);
  CO_TRY(co_await file.read(region_table_offsets[good_index], buffer));
  CO_TRY(co_await file.write(region_table_offsets[1 - good_index], buffer));
  co_return co_await file.flush();
}

}  // namespace

Async<bool> replay_on_disk(File& file) {
  CO_TRY_LET(FoundHeaders headers, co_await read_headers(file));
  if (headers.current.log_is_empty()) co_return false;
  CO_TRY_LET(const LogContent content, co_await read_log(file, headers.current));
  CO_TRY_LET(ReplayPlan plan, plan_replay(file, headers.current, content));
  CO_TRY(co_await begin_session(file, headers));
  CO_TRY(co_await write_updates(file, std::move(plan)));
  headers.current.log_guid = Guid();
  CO_TRY(co_await write_headers(file, headers));
  co_return true;
}

Async<RepairedCopies> repair_copies(File& file) {
  CO_TRY_LET(FoundHeaders headers, co_await read_headers(file));
  if (!headers.current.log_is_empty())
    co_return fail(Errc::invalid_argument,
                   file.name() + ": the log is not empty; it must be replayed first");
  CO_TRY_LET(const RegionTable regions, co_await read_region_table(file, headers.current));
  const RepairedCopies repaired{.header = !headers.damage[1 - headers.current_index].empty(),
                                .region_table = !regions.damage[1 - regions.used_index].empty()};
  if (!repaired.header && !repaired.region_table) co_return repaired;
  CO_TRY(co_await begin_session(file, headers));
  if (repaired.region_table) CO_TRY(co_await copy_region_table(file, regions.used_index));
  co_return repaired;
}

}  // namespace vhdkit::vhdx
