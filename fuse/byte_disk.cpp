#include "fuse/byte_disk.h"

#include <algorithm>
#include <utility>

#include "support/checked.h"

namespace vhdkit::fuse {

namespace {

// Bounds the list of extents that one search for a hole or data makes.
constexpr uint64_t search_bytes = 1 * GiB;

}  // namespace

// Takes the change off the list at its end and lets the others look again.
class ByteDisk::Turn {
 public:
  Turn(ByteDisk& disk, Changes::iterator change) : disk_(&disk), change_(change) {}
  Turn(Turn&& other) noexcept
      : disk_(std::exchange(other.disk_, nullptr)), change_(other.change_) {}
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (disk_ == nullptr) return;
    disk_->changes_.erase(change_);
    for (const std::coroutine_handle<> waiter : std::exchange(disk_->waiters_, {})) waiter.resume();
  }

  bool is_partial() const { return change_->is_partial; }

 private:
  ByteDisk* disk_;
  Changes::iterator change_;
};

bool ByteDisk::must_wait(const Change& change) const {
  return std::ranges::any_of(changes_, [&change](const Change& other) {
    const bool overlaps = other.begin < change.end && change.begin < other.end;
    return overlaps && (other.is_partial || change.is_partial);
  });
}

Async<ByteDisk::Turn> ByteDisk::enter(uint64_t disk_offset, uint64_t length) {
  const Change change{.begin = align_down(disk_offset, sector_bytes()),
                      .end = align_up(disk_offset + length, sector_bytes()),
                      .is_partial = !is_aligned(disk_offset | length, sector_bytes())};
  struct OneEnd {
    ByteDisk& disk;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) const { disk.waiters_.push_back(waiter); }
    void await_resume() const noexcept {}
  };
  OneEnd one_end{*this};
  while (must_wait(change)) co_await one_end;
  changes_.push_back(change);
  co_return Turn(*this, std::prev(changes_.end()));
}

Async<void> ByteDisk::read(uint64_t disk_offset, std::span<std::byte> buffer) {
  if (is_aligned(disk_offset | buffer.size(), sector_bytes()))
    co_return co_await disk_.read(disk_offset, buffer);
  const uint64_t begin = align_down(disk_offset, sector_bytes());
  const uint64_t end = align_up(disk_offset + buffer.size(), sector_bytes());
  std::vector<std::byte> sectors(end - begin);
  const std::span<std::byte> all(sectors);
  CO_TRY(co_await disk_.read(begin, all));
  std::ranges::copy(all.subspan(disk_offset - begin, buffer.size()), buffer.begin());
  co_return Result<void>();
}

Async<void> ByteDisk::write(uint64_t disk_offset, std::span<const std::byte> bytes,
                            Durability durability) {
  if (bytes.empty()) co_return Result<void>();
  CO_TRY_LET(const Turn turn, co_await enter(disk_offset, bytes.size()));
  if (turn.is_partial()) co_return co_await write_partly(disk_offset, bytes, durability);
  const iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const Buffers buffers(&vector, 1);
  co_return co_await disk_.write(disk_offset, buffers, durability);
}

Async<void> ByteDisk::write_partly(uint64_t disk_offset, std::span<const std::byte> bytes,
                                   Durability durability) {
  const uint64_t begin = align_down(disk_offset, sector_bytes());
  const uint64_t end = align_up(disk_offset + bytes.size(), sector_bytes());
  std::vector<std::byte> sectors(end - begin);
  const std::span<std::byte> all(sectors);
  const std::span<std::byte> first = all.first(sector_bytes());
  const std::span<std::byte> last = all.last(sector_bytes());
  CO_TRY(co_await disk_.read(begin, first));
  CO_TRY(co_await disk_.read(end - sector_bytes(), last));
  std::ranges::copy(bytes, all.begin() + ptrdiff_t(disk_offset - begin));
  const iovec vector{sectors.data(), sectors.size()};
  const Buffers buffers(&vector, 1);
  co_return co_await disk_.write(begin, buffers, durability);
}

// Whole sectors are given back; what is left at both ends is written.
Async<void> ByteDisk::zero(uint64_t disk_offset, uint64_t length) {
  const uint64_t end = disk_offset + length;
  const uint64_t first = std::min(align_up(disk_offset, sector_bytes()), end);
  const uint64_t last = std::max(align_down(end, sector_bytes()), first);
  const std::vector<std::byte> zeroes(sector_bytes());
  const std::span<const std::byte> head = std::span(zeroes).first(first - disk_offset);
  const std::span<const std::byte> tail = std::span(zeroes).first(end - last);
  CO_TRY(co_await write(disk_offset, head, Durability::cached));
  CO_TRY(co_await write(last, tail, Durability::cached));
  if (first == last) co_return Result<void>();
  CO_TRY_LET(const Turn turn, co_await enter(first, last - first));
  co_return co_await disk_.zero(first, last - first);
}

Async<uint64_t> ByteDisk::find(uint64_t disk_offset, uint64_t end, bool data) {
  disk::ExtentList extents;
  while (disk_offset < end) {
    extents.clear();
    CO_TRY(co_await disk_.extents(disk_offset, std::min(end - disk_offset, search_bytes), extents));
    for (const disk::Extent& extent : extents) {
      if ((extent.kind != disk::ExtentKind::zero) == data) co_return extent.disk_offset;
      disk_offset = extent.disk_offset + extent.length;
    }
  }
  co_return end;
}

}  // namespace vhdkit::fuse
