#include "disk/file_space.h"

#include <algorithm>
#include <cassert>

#include "support/checked.h"

namespace vhdkit::disk {

void FileSpace::add_gap(uint64_t begin, uint64_t end) {
  if (begin == end) return;
  gaps_[begin] = end;
  gap_bytes_ += end - begin;
  if (end - begin >= min_take_) large_gaps_.insert(begin);
}

void FileSpace::drop_gap(Gaps::iterator gap) {
  gap_bytes_ -= gap->second - gap->first;
  large_gaps_.erase(gap->first);
  gaps_.erase(gap);
}

// Takes [begin, end) out of the gap.
void FileSpace::cut(Gaps::iterator gap, uint64_t begin, uint64_t end) {
  const auto [gap_begin, gap_end] = *gap;
  assert(gap_begin <= begin && end <= gap_end);
  drop_gap(gap);
  add_gap(gap_begin, begin);
  add_gap(end, gap_end);
}

void FileSpace::use(uint64_t file_offset, uint64_t length) {
  const uint64_t begin = std::max(file_offset, begin_);
  const uint64_t end = file_offset + length;
  if (begin >= end) return;
  if (begin >= end_) {
    add_gap(end_, begin);
    end_ = end;
    return;
  }
  auto gap = gaps_.upper_bound(begin);
  assert(gap != gaps_.begin());  // else it lies upon something
  cut(std::prev(gap), begin, end);
}

uint64_t FileSpace::take(uint64_t length, uint64_t alignment, uint64_t lead) {
  assert(length >= min_take_);
  for (const uint64_t gap_begin : large_gaps_) {
    const auto gap = gaps_.find(gap_begin);
    const uint64_t begin = align_up(gap_begin + lead, alignment) - lead;
    if (begin > gap->second || gap->second - begin < length) continue;
    cut(gap, begin, begin + length);
    return begin;
  }
  const uint64_t begin = align_up(end_ + lead, alignment) - lead;
  add_gap(end_, begin);
  end_ = begin + length;
  return begin;
}

void FileSpace::give_back(uint64_t file_offset, uint64_t length) {
  uint64_t begin = file_offset;
  uint64_t end = file_offset + length;
  assert(begin_ <= begin && end <= end_);
  if (const auto next = gaps_.find(end); next != gaps_.end()) {
    end = next->second;
    drop_gap(next);
  }
  const auto after = gaps_.lower_bound(begin);
  if (after != gaps_.begin() && std::prev(after)->second == begin) {
    begin = std::prev(after)->first;
    drop_gap(std::prev(after));
  }
  if (end == end_) {
    end_ = begin;
  } else {
    add_gap(begin, end);
  }
}

}  // namespace vhdkit::disk
