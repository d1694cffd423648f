#include "tests/crash/scenario.h"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "async/task_group.h"
#include "image/merge_content.h"

namespace vhdkit::tests {
namespace {

constexpr uint64_t window_bytes = 16 * KiB;  // at both ends of each block: where most is written
constexpr uint64_t tasks_at_once = 6;
constexpr uint64_t states_per_whole_look = 64;
constexpr uint64_t operations_per_fault = 40;
constexpr size_t max_images = 3;

// Ends a merge somewhere on its way, or never.
class Interruption final : public image::Progress {
 public:
  explicit Interruption(uint64_t after) : left_(after) {}
  void update(uint64_t, uint64_t) override {}
  bool cancelled() const override { return left_-- == 0; }

 private:
  mutable uint64_t left_;
};

}  // namespace

Scenario::Scenario(const Options& options)
    : options_(options),
      random_(options.seed),
      rounds_per_session_(draw(8) == 0 ? 80 : 8),  // long enough for the log to wrap around
      steps_per_state_(draw(8) == 0 ? 40 : 3),
      loop_(options.seed),
      looking_loop_(*async::Loop::create({.engine = async::Engine::synchronous})),
      image_(random_) {
  loop_.set_observer([this] { observe(); });
}

std::string Scenario::run() {
  files_.push_back(std::make_unique<async::SimFile>(loop_, image_.content()));
  while (counts_.states < options_.state_count && violation_.empty()) {
    const auto ended = loop_.run(chapter());
    if (!ended && violation_.empty()) violation_ = ended.error().message;
    if (violation_.empty()) crash();
  }
  return violation_;
}

Async<void> Scenario::chapter() {
  if (files_.size() > 1 && draw(3) == 0) co_return co_await merge();
  if (files_.size() < max_images && draw(4) == 0) CO_TRY(co_await snapshot());
  co_return co_await session();
}

std::unique_ptr<File> Scenario::view_of(size_t depth) const {
  return std::make_unique<SabotagedFile>(*files_[depth], options_.sabotage);
}

CrashImage::Files Scenario::views_from(size_t depth) const {
  CrashImage::Files views;
  for (; depth < files_.size(); ++depth) views.push_back(view_of(depth));
  return views;
}

Async<void> Scenario::snapshot() {
  CO_TRY_LET(async::MemoryFile child, co_await image_.new_child(view_of(0)));
  files_.insert(files_.begin(), std::make_unique<async::SimFile>(loop_, std::move(child)));
  ++counts_.snapshots;
  co_return Result<void>();
}

// The first image goes away once its content is in the next one, as image::merge() does it.
Async<void> Scenario::merge() {
  bool merged = false;
  const auto ended = co_await merge_first(merged);
  set_faults(false);
  ++(merged ? counts_.merges : counts_.broken_merges);
  if (merged) files_.erase(files_.begin());
  const bool is_expected = ended || options_.with_faults || ended.error().code == Errc::interrupted;
  co_return is_expected ? Result<void>() : ended;
}

Async<void> Scenario::merge_first(bool& merged) {
  CO_TRY_LET(const auto source, co_await image_.open(views_from(0), CrashImage::Access::read_only));
  CO_TRY_LET(const auto target, co_await image_.open(views_from(1), CrashImage::Access::merge));
  set_faults(options_.with_faults);
  CO_TRY_LET(const image::MergeAmount amount, co_await image::measure_merge(*source, 1));
  Interruption interruption(draw(4));
  CO_TRY(co_await image::merge_content(*source, 1, *target, amount, &interruption));
  CO_TRY(co_await target->close());
  merged = true;
  co_return Result<void>();
}

// Opens the image, changes it for a while and closes it, or stops as if it had crashed.
Async<void> Scenario::session() {
  CO_TRY_LET(disk_, co_await image_.open(views_from(0), CrashImage::Access::write));
  set_faults(options_.with_faults);
  bool is_usable = true;
  for (uint64_t round = 0; round < rounds_per_session_ && is_usable && violation_.empty();
       ++round) {
    async::TaskGroup tasks;
    for (uint64_t i = 1 + draw(tasks_at_once); i > 0; --i) tasks.start(act());
    CO_TRY(co_await tasks.finish());
    set_faults(false);
    CO_TRY(co_await read_all());
    is_usable = (co_await disk_->flush()).has_value() || !options_.with_faults;
    set_faults(options_.with_faults);
  }
  set_faults(false);
  Result<void> closed;
  if (is_usable && draw(2) == 0) closed = co_await disk_->close();
  disk_.reset();
  co_return closed;
}

void Scenario::set_faults(bool on) {
  const auto fault = [this, on](async::SimFile::Access access, uint64_t, uint64_t) {
    if (!on || draw(operations_per_fault) != 0) return 0;
    if (access == async::SimFile::Access::read) return EIO;
    return draw(2) == 0 ? EIO : ENOSPC;
  };
  for (const auto& file : files_) file->set_fault(fault);
}

// Two or three things, one after another.
Async<void> Scenario::act() {
  for (uint64_t i = 1 + draw(3); i > 0; --i) {
    const uint64_t kind = draw(10);
    if (kind < 5) {
      CO_TRY(co_await write(draw_range(), draw(4) == 0 ? Durability::durable : Durability::cached));
    } else if (kind < 8) {
      CO_TRY(co_await zero(draw_range()));
    } else {
      CO_TRY(co_await flush());
    }
  }
  co_return Result<void>();
}

Scenario::Range Scenario::draw_range() {
  const uint64_t unit = image_.sector_bytes();
  const uint64_t block = draw(ceil_div(image_.size_bytes(), image_.block_bytes()));
  const uint64_t begin = block * image_.block_bytes();
  const uint64_t end = std::min(begin + image_.block_bytes(), image_.size_bytes());
  if (draw(8) == 0) return {.disk_offset = begin, .length = end - begin};
  const uint64_t units = window_bytes / unit;
  const uint64_t first = draw(units);
  const uint64_t count = 1 + draw(units - first);
  // The window at the block's end goes on into the next block, if there is one.
  const uint64_t window = draw(2) == 0 ? begin : end - window_bytes / 2;
  const uint64_t at = std::min(window + first * unit, image_.size_bytes() - unit);
  return {.disk_offset = at, .length = std::min(count * unit, image_.size_bytes() - at)};
}

Async<void> Scenario::write(Range range, Durability durability) {
  DiskOracle& oracle = image_.oracle();
  const uint64_t first = range.disk_offset / DiskOracle::sector_bytes;
  std::vector<std::byte> bytes(range.length);
  const size_t change = oracle.begin_write(first, range.length / DiskOracle::sector_bytes);
  oracle.fill(change, first, bytes);
  const iovec vectors[2] = {{bytes.data(), bytes.size() / 2},
                            {bytes.data() + bytes.size() / 2, bytes.size() - bytes.size() / 2}};
  const Buffers buffers(vectors);
  const auto written = co_await disk_->write(range.disk_offset, buffers, durability);
  if (!written) co_return failed(change, written);
  if (durability == Durability::durable) {
    oracle.complete_durably(change);
  } else {
    oracle.complete(change);
  }
  co_return Result<void>();
}

// Expected, where transfers are made to fail.
Result<void> Scenario::failed(size_t change, const Result<void>& result) {
  image_.oracle().fail(change);
  ++counts_.faults;
  return options_.with_faults ? Result<void>() : result;
}

Async<void> Scenario::zero(Range range) {
  DiskOracle& oracle = image_.oracle();
  const size_t change = oracle.begin_zero(range.disk_offset / DiskOracle::sector_bytes,
                                          range.length / DiskOracle::sector_bytes);
  const auto zeroed = co_await disk_->zero(range.disk_offset, range.length);
  if (!zeroed) co_return failed(change, zeroed);
  oracle.complete(change);
  co_return Result<void>();
}

Async<void> Scenario::flush() {
  const size_t flush = image_.oracle().begin_flush();
  const auto flushed = co_await disk_->flush();
  if (!flushed && options_.with_faults) co_return Result<void>();
  CO_TRY(std::move(flushed));
  image_.oracle().complete_flush(flush);
  co_return Result<void>();
}

// --- looking ---

Async<void> Scenario::read_all() {
  const Range all{.disk_offset = 0, .length = image_.size_bytes()};
  if (draw(8) == 0) co_return co_await judge_range(*disk_, all, false);
  for (uint64_t at = 0; at < image_.size_bytes(); at += image_.block_bytes()) {
    const Range window{.disk_offset = at, .length = window_bytes};
    CO_TRY(co_await judge_range(*disk_, window, false));
  }
  co_return Result<void>();
}

void Scenario::observe() {
  if (!violation_.empty() || counts_.states >= options_.state_count) return;
  if (draw(steps_per_state_) != 0) return;
  judge(draw_crash());
}

Scenario::States Scenario::draw_crash() {
  States states;
  for (const auto& file : files_) states.push_back(file->crash_state(random_));
  return states;
}

void Scenario::judge(const States& states) {
  ++counts_.states;
  const auto looked = looking_loop_->run(look_at(states));
  if (!looked && violation_.empty())
    violation_ = "state " + std::to_string(counts_.states) + ": " + looked.error().message;
}

// The machine stopped: the next session begins with what it left.
void Scenario::crash() {
  const States states = draw_crash();
  judge(states);
  if (!violation_.empty()) return;
  [[maybe_unused]] const auto settled = looking_loop_->run(settle_disk(states));
  assert(settled.has_value());
  files_.clear();
  for (const async::MemoryFile& state : states)
    files_.push_back(std::make_unique<async::SimFile>(loop_, state));
}

CrashImage::Files Scenario::files_of(const States& states) const {
  CrashImage::Files files;
  for (const async::MemoryFile& state : states)
    files.push_back(std::make_unique<async::MemoryFile>(state));
  return files;
}

Async<void> Scenario::look_at(States states) {
  CrashImage::Files files = files_of(states);
  for (const auto& file : files) {
    CO_TRY_LET(const std::string corruption, co_await image_.corruption(*file));
    if (!corruption.empty()) co_return fail(Errc::corrupt, "check: " + corruption);
  }
  // By the replay in memory, or by the one on disk.
  const auto access =
      counts_.states % 2 == 0 ? CrashImage::Access::write : CrashImage::Access::read_only;
  CO_TRY_LET(const auto disk, co_await image_.open(files_of(states), access));
  co_return co_await judge_disk(*disk, counts_.states % states_per_whole_look == 0);
}

Async<void> Scenario::judge_disk(disk::LayeredDisk& disk, bool whole) {
  const Range all{.disk_offset = 0, .length = image_.size_bytes()};
  if (whole) co_return co_await judge_range(disk, all, true);
  for (uint64_t end = image_.block_bytes(); end < image_.size_bytes() + image_.block_bytes();
       end += image_.block_bytes()) {
    const uint64_t block = end - image_.block_bytes();
    const Range head{.disk_offset = block, .length = window_bytes};
    CO_TRY(co_await judge_range(disk, head, true));
    const uint64_t tail = std::min(end, image_.size_bytes()) - window_bytes / 2;
    const Range rest{.disk_offset = tail, .length = window_bytes / 2};
    CO_TRY(co_await judge_range(disk, rest, true));
  }
  co_return Result<void>();
}

Async<void> Scenario::judge_range(disk::LayeredDisk& disk, Range range, bool after_crash) {
  std::vector<std::byte> bytes(range.length);
  const std::span<std::byte> buffer(bytes);
  CO_TRY(co_await disk.read(range.disk_offset, buffer));
  for (uint64_t at = 0; at < range.length; at += DiskOracle::sector_bytes) {
    const uint64_t sector = (range.disk_offset + at) / DiskOracle::sector_bytes;
    const std::string wrong =
        image_.oracle().judge(sector, buffer.subspan(at, DiskOracle::sector_bytes), after_crash);
    if (!wrong.empty()) co_return fail(Errc::corrupt, wrong);
  }
  co_return Result<void>();
}

Async<void> Scenario::settle_disk(States states) {
  CO_TRY_LET(const auto disk,
             co_await image_.open(files_of(states), CrashImage::Access::read_only));
  std::vector<std::byte> bytes(image_.size_bytes());
  const std::span<std::byte> buffer(bytes);
  CO_TRY(co_await disk->read(0, buffer));
  image_.oracle().settle(0, bytes);
  co_return Result<void>();
}

}  // namespace vhdkit::tests
