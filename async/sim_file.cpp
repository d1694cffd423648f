#include "async/sim_file.h"

#include <algorithm>
#include <cerrno>
#include <numeric>

#include "support/checked.h"

namespace vhdkit::async {
namespace {

std::vector<std::byte> gathered(Buffers buffers) {
  std::vector<std::byte> bytes;
  for (const iovec& vector : buffers) {
    const auto* const begin = static_cast<const std::byte*>(vector.iov_base);
    bytes.insert(bytes.end(), begin, begin + vector.iov_len);
  }
  return bytes;
}

// How much of the pending changes a crash keeps.
enum class Loss : uint8_t { all, none, later, some_changes, some_sectors };
constexpr uint64_t loss_count = 5;

}  // namespace

SimFile::SimFile(SimLoop& loop, MemoryFile content)
    : loop_(loop), current_(content), durable_(std::move(content)) {}

Result<void> SimFile::ask(Access access, uint64_t file_offset, uint64_t length) {
  const int error = fault_ ? fault_(access, file_offset, length) : 0;
  if (error == 0) return {};
  return fail_errno(error, name() + ": at offset " + std::to_string(file_offset));
}

SimFile::Change& SimFile::begin(uint64_t file_offset, uint64_t length,
                                std::vector<std::byte> bytes) {
  return changes_.emplace_back(Change{.id = next_id_++,
                                      .file_offset = file_offset,
                                      .length = length,
                                      .bytes = std::move(bytes),
                                      .size_after = size_bytes()});
}

// Applies the part of the change that lies in [from, to) of the file.
void SimFile::apply(const Change& change, uint64_t from, uint64_t to, MemoryFile& file) {
  from = std::max(from, change.file_offset);
  to = std::min(to, change.file_offset + change.length);
  if (from >= to) return;
  if (change.bytes.empty()) {
    [[maybe_unused]] const auto punched = file.punch_hole(from, to - from);
    assert(punched);
    return;
  }
  const std::span<const std::byte> bytes(change.bytes);
  file.store(from, bytes.subspan(from - change.file_offset, to - from));
}

void SimFile::complete(uint64_t id) {
  const auto change = std::ranges::find(changes_, id, &Change::id);
  apply(*change, 0, UINT64_MAX, current_);
  change->size_after = current_.size_bytes();
  change->completed = true;
  std::rotate(change, change + 1, changes_.end());
}

void SimFile::make_durable(const std::vector<uint64_t>& ids) {
  uint64_t size = durable_.size_bytes();
  for (const Change& change : changes_) {
    if (std::ranges::find(ids, change.id) == ids.end()) continue;
    apply(change, 0, UINT64_MAX, durable_);
    size = change.size_after;
  }
  std::erase_if(changes_, [&ids](const Change& change) {
    return std::ranges::find(ids, change.id) != ids.end();
  });
  [[maybe_unused]] const auto resized = durable_.resize(size);
  assert(resized);
}

void SimFile::fail(uint64_t id) {
  const auto change = std::ranges::find(changes_, id, &Change::id);
  const uint64_t sector_count = ceil_div(change->length, sector_bytes);
  const uint64_t written = loop_.random()() % (sector_count + 1) * sector_bytes;
  *change = part_of(*change, change->file_offset,
                    change->file_offset + std::min(written, change->length));
  complete(id);
}

std::vector<uint64_t> SimFile::completed_ids() const {
  std::vector<uint64_t> ids;
  for (const Change& change : changes_)
    if (change.completed) ids.push_back(change.id);
  return ids;
}

SimFile::Change SimFile::part_of(const Change& change, uint64_t from, uint64_t to) {
  Change part{.id = change.id,
              .file_offset = from,
              .length = to - from,
              .bytes = {},
              .size_after = change.size_after,
              .completed = change.completed};
  if (!change.bytes.empty()) {
    const auto begin = change.bytes.begin() + ptrdiff_t(from - change.file_offset);
    part.bytes.assign(begin, begin + ptrdiff_t(part.length));
  }
  return part;
}

// What was there before a durable write began cannot come back over it. The sizes stay.
void SimFile::forget_under(FileRange range, const std::vector<uint64_t>& earlier) {
  const uint64_t end = range.file_offset + range.length;
  std::vector<Change> kept;
  for (const Change& change : changes_) {
    const uint64_t change_end = change.file_offset + change.length;
    const bool overlaps = change.file_offset < end && range.file_offset < change_end;
    if (!overlaps || std::ranges::find(earlier, change.id) == earlier.end()) {
      kept.push_back(change);
      continue;
    }
    const uint64_t left_end = std::max(change.file_offset, range.file_offset);
    const uint64_t right_begin = std::min(change_end, end);
    kept.push_back(part_of(change, change.file_offset, left_end));
    if (right_begin < change_end) kept.push_back(part_of(change, right_begin, change_end));
  }
  changes_ = std::move(kept);
}

Async<void> SimFile::readv(uint64_t file_offset, Buffers buffers) {
  co_await loop_.turn();
  CO_TRY(ask(Access::read, file_offset, 0));
  co_return co_await current_.readv(file_offset, buffers);
}

Async<void> SimFile::writev(uint64_t file_offset, Buffers buffers, Durability durability) {
  std::vector<std::byte> bytes = gathered(buffers);
  if (bytes.empty()) co_return Result<void>();
  ++write_count_;
  const uint64_t length = bytes.size();
  const std::vector<uint64_t> earlier = completed_ids();
  const uint64_t id = begin(file_offset, length, std::move(bytes)).id;
  co_await loop_.turn();
  if (auto allowed = ask(Access::write, file_offset, length); !allowed) {
    fail(id);
    co_return allowed;
  }
  complete(id);
  if (durability == Durability::durable) {
    co_await loop_.turn();
    forget_under({file_offset, length}, earlier);
    make_durable({id});
  }
  co_return Result<void>();
}

Async<void> SimFile::flush() {
  const std::vector<uint64_t> covered = completed_ids();
  co_await loop_.turn();
  CO_TRY(ask(Access::flush, 0, 0));
  ++flush_count_;
  make_durable(covered);
  co_return Result<void>();
}

Result<void> SimFile::resize(uint64_t size_bytes) {
  TRY(ask(Access::resize, size_bytes, 0));
  const uint64_t before = current_.size_bytes();
  TRY(current_.resize(size_bytes));
  // What is cut off reads as zeroes if the file grows again.
  const uint64_t cut = before > size_bytes ? before - size_bytes : 0;
  begin(size_bytes, cut, {}).completed = true;
  return {};
}

Result<std::optional<FileRange>> SimFile::next_data(uint64_t file_offset, uint64_t end) {
  return current_.next_data(file_offset, end);
}

Result<void> SimFile::punch_hole(uint64_t file_offset, uint64_t length) {
  TRY(ask(Access::punch, file_offset, length));
  Change& change = begin(file_offset, length, {});
  apply(change, 0, UINT64_MAX, current_);
  change.completed = true;
  return {};
}

MemoryFile SimFile::crash_state(std::mt19937_64& random) const {
  MemoryFile state = durable_;
  uint64_t size = durable_.size_bytes();
  const auto loss = Loss(random() % loss_count);
  std::vector<size_t> order(changes_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const bool reordered = random() % 2 == 0;
  if (reordered) std::ranges::shuffle(order, random);
  const size_t kept_count = loss == Loss::later ? random() % (order.size() + 1) : order.size();
  for (const size_t index : std::span(order).first(loss == Loss::all ? 0 : kept_count)) {
    const Change& change = changes_[index];
    if (loss == Loss::some_changes && random() % 2 == 0) continue;
    if (loss != Loss::some_sectors) {
      apply(change, 0, UINT64_MAX, state);
    } else {
      const uint64_t end = change.file_offset + change.length;
      uint64_t at = align_down(change.file_offset, sector_bytes);
      for (; at < end; at += sector_bytes)
        if (random() % 2 == 0) apply(change, at, at + sector_bytes, state);
    }
  }
  // The size has its own way to the disk: any of those that the file had.
  const size_t size_index = random() % (changes_.size() + 1);
  if (loss == Loss::none && !changes_.empty()) size = size_bytes();
  if (loss != Loss::none && size_index < changes_.size()) {
    const Change& change = changes_[size_index];
    // What is in flight knows nothing of sizes that became durable meanwhile.
    const uint64_t end = change.file_offset + change.length;
    size = change.completed ? change.size_after : std::max(size, end);
  }
  [[maybe_unused]] const auto resized = state.resize(size);
  assert(resized);
  return state;
}

}  // namespace vhdkit::async
