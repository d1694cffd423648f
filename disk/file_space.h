// Which parts of an image file nobody uses: given out again before the file grows.
#pragma once

#include <cstdint>
#include <map>

namespace vhdkit::disk {

// All numbers are bytes of the file. Memory: one entry for each gap.
class FileSpace {
 public:
  // Everything from begin on is free until it is used; nothing before it is ever given out. Gaps
  // shorter than min_gap are of no use and forgotten.
  explicit FileSpace(uint64_t begin, uint64_t min_gap = 1)
      : begin_(begin), min_gap_(min_gap), end_(begin) {}

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
  void cut(Gaps::iterator gap, uint64_t begin, uint64_t end);

  uint64_t begin_;
  uint64_t min_gap_;
  uint64_t end_;
  uint64_t gap_bytes_ = 0;
  Gaps gaps_;
};

}  // namespace vhdkit::disk
