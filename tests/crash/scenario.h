// One seed's story: an image that is written, flushed, closed, opened again and crashes, that gets
// children and is merged with them, with a look at what a crash could leave at every step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "async/sim_file.h"
#include "tests/crash/crash_image.h"
#include "tests/crash/sabotage.h"

namespace vhdkit::tests {

// Loop-bound: it has a loop of its own. Everything follows from the seed.
class Scenario {
 public:
  struct Options {
    uint64_t seed;
    uint64_t state_count;  // crash states to look at
    Sabotage sabotage;
    bool with_faults;  // some transfers, flushes, punches and changes of the size fail
  };
  explicit Scenario(const Options& options);

  // Empty, or what broke the promise first.
  std::string run();

  struct Counts {
    uint64_t states = 0;
    uint64_t faults = 0;  // requests that failed as they should
    uint64_t snapshots = 0;
    uint64_t merges = 0;  // to their end
    uint64_t broken_merges = 0;
  };
  const Counts& counts() const { return counts_; }
  std::string kind() const { return image_.kind(); }

 private:
  struct Range {
    uint64_t disk_offset;
    uint64_t length;
  };

  // Drawing.
  uint64_t draw(uint64_t count) { return random_() % count; }
  Range draw_range();
  // Acting, on loop_.
  Async<void> chapter();
  Async<void> session();
  Async<void> snapshot();
  Async<void> merge();
  Async<void> merge_first(bool& merged);
  std::unique_ptr<File> view_of(size_t depth) const;
  CrashImage::Files views_from(size_t depth) const;
  void set_faults(bool on);
  Async<void> act();
  Async<void> write(Range range, Durability durability);
  Async<void> zero(Range range);
  Async<void> flush();
  Result<void> failed(size_t change, const Result<void>& result);
  Async<void> read_all();
  // Looking, with a loop of its own.
  using States = std::vector<async::MemoryFile>;  // what a crash left of each file, child first
  void observe();
  States draw_crash();
  void judge(const States& states);
  void crash();
  CrashImage::Files files_of(const States& states) const;
  Async<void> look_at(States states);
  Async<void> judge_disk(disk::LayeredDisk& disk, bool whole);
  Async<void> judge_range(disk::LayeredDisk& disk, Range range, bool after_crash);
  Async<void> settle_disk(States states);

  Options options_;
  std::mt19937_64 random_;
  uint64_t rounds_per_session_;
  uint64_t steps_per_state_;
  async::SimLoop loop_;
  std::unique_ptr<async::Loop> looking_loop_;
  CrashImage image_;
  std::vector<std::unique_ptr<async::SimFile>> files_;  // of the chain, child first
  std::unique_ptr<disk::LayeredDisk> disk_;
  Counts counts_;
  std::string violation_;
};

}  // namespace vhdkit::tests
