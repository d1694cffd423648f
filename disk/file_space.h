// Which parts of an image file nobody uses: given out again before the file grows.
#pragma once

#include <cstdint>
#include <map>
#include <set>

namespace vhdkit::disk {

// All numbers are bytes of the file. Memory: one entry for each gap.
class FileSpace {
 public:
  // Everything from begin on is free until it is used; nothing before it is ever given out. What is
  // taken has at least min_take bytes, so shorter gaps need not be looked at.
  explicit FileSpace(uint64_t begin, uint64_t min_take = 1)
      : begin_(begin), min_take_(min_take), end_(begin) {}

  // The image has something there. REQUIRES: apart from everything else that is used.
  void use(uint64_t file_offset, uint64_t length);

  // The first place of this length whose byte `lead` lies on a multiple of alignment, taken at
  // once: in a gap, else behind everything that is used.
  uint64_t take(uint64_t length, uint64_t alignment, uint64_t lead = 0);

  // REQUIRES: in use. Whoever gives a place back makes sure that nothing on the disk names it any
  // more.
  void give_back(uint64_t file_offset, uint64_t length);

  // Where everything in use ends.
  uint64_t end() const { return end_; }
  // The sum of the gaps.
  uint64_t gap_bytes() const { return gap_bytes_; }

 private:
  using Gaps = std::map<uint64_t, uint64_t>;  // begin → end
  void add_gap(uint64_t begin, uint64_t end);
  void drop_gap(Gaps::iterator gap);
  void cut(Gaps::iterator gap, uint64_t begin, uint64_t end);

  uint64_t begin_;
  uint64_t min_take_;
  uint64_t end_;
  uint64_t gap_bytes_ = 0;
  Gaps gaps_;
  std::set<uint64_t> large_gaps_;  // where those begin that have min_take bytes
};

}  // namespace vhdkit::disk
