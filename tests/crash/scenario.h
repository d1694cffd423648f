// One seed's story: an image that is written, flushed, closed, opened again and crashes, with a
// look at what a crash could leave at every step.
#pragma once

#include <cstdint>
#include <string>

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

  uint64_t states_seen() const { return states_seen_; }
  uint64_t faults_seen() const { return faults_seen_; }  // requests that failed as they should
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
  Async<void> session();
  void set_faults(bool on);
  Async<void> act();
  Async<void> write(Range range, Durability durability);
  Async<void> zero(Range range);
  Async<void> flush();
  Result<void> failed(size_t change, const Result<void>& result);
  Async<void> read_all();
  // Looking, with a loop of its own.
  void observe();
  void judge(const async::MemoryFile& state);
  void crash();
  Async<void> look_at(async::MemoryFile state);
  Async<void> judge_disk(disk::LayeredDisk& disk, bool whole);
  Async<void> judge_range(disk::LayeredDisk& disk, Range range, bool after_crash);
  Async<void> settle_disk(async::MemoryFile state);

  Options options_;
  std::mt19937_64 random_;
  uint64_t rounds_per_session_;
  uint64_t steps_per_state_;
  async::SimLoop loop_;
  std::unique_ptr<async::Loop> looking_loop_;
  CrashImage image_;
  std::unique_ptr<async::SimFile> file_;
  std::unique_ptr<disk::LayeredDisk> disk_;
  uint64_t states_seen_ = 0;
  uint64_t faults_seen_ = 0;
  std::string violation_;
};

}  // namespace vhdkit::tests
