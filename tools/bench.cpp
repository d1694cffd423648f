#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>

#include "async/task_group.h"
#include "support/checked.h"
#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"Reads of 4 KiB all over the disk, 32 at a time", "vhd bench --random disk.vhdx"},
    {"Writes, past the page cache, with a flush after every 64th",
     "vhd bench -w --random --cache none --flush-interval 64 disk.vhdx"},
    {"Every write into a block of its own", "vhd bench -w -S 2M -c 1000 disk.vhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "all requests were carried out"},
    {1, "one failed, or the image could not be opened or closed"},
};
constexpr Page bench_page = {
    .summary = "times many requests to a disk",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Sends requests of one size to the disk, a number of them in flight at once, and says how "
        "long they took and what CPU time they cost, opening and closing aside. Offsets go up by "
        "the step and begin again at the disk's end, or are anywhere with --random. Options are "
        "spelled as in qemu-img bench. With -w the disk's content is lost.",
    .examples = examples,
    .exit_codes = exit_codes,
};

using Clock = std::chrono::steady_clock;

double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return double(time.tv_sec) + double(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Load {
  uint64_t count = 75'000;
  uint64_t depth = 32;
  uint64_t size_bytes = 4096;
  uint64_t step_bytes = 0;  // 0: the size
  uint64_t flush_interval = 0;
  bool writes = false;
  bool is_random = false;
};

// The requests of a load, sent by as many coroutines as may be in flight.
class Sender {
 public:
  Sender(disk::Disk& disk, const Load& load)
      : disk_(disk), load_(load), random_(1), stride_bytes_(align_up(load.size_bytes, page_bytes)) {
    place_count_ = disk.geometry().size_bytes / load.size_bytes;
    bytes_.reset(std::aligned_alloc(page_bytes, load.depth * stride_bytes_));
    std::memset(bytes_.get(), 0x5a, load.depth * stride_bytes_);
  }

  Async<void> run() {
    async::TaskGroup lanes;
    for (uint64_t i = 0; i < load_.depth; ++i) lanes.start(lane(i));
    co_return co_await lanes.finish();
  }

 private:
  static constexpr uint64_t page_bytes = 4096;

  Async<void> lane(uint64_t index) {
    const iovec vector{static_cast<std::byte*>(bytes_.get()) + index * stride_bytes_,
                       load_.size_bytes};
    const Buffers buffers(&vector, 1);
    while (sent_ < load_.count) {
      if (interrupted()) co_return fail(Errc::interrupted, "interrupted");
      const uint64_t disk_offset = next_offset();
      const bool flushes = load_.flush_interval > 0 && sent_ % load_.flush_interval == 0;
      if (load_.writes) {
        CO_TRY(co_await disk_.write(disk_offset, buffers, Durability::cached));
      } else {
        CO_TRY(co_await disk_.read(disk_offset, buffers));
      }
      if (flushes) {
        CO_TRY(co_await disk_.flush());
      }
    }
    co_return Result<void>();
  }

  uint64_t next_offset() {
    ++sent_;
    if (load_.is_random) return random_() % place_count_ * load_.size_bytes;
    const uint64_t disk_offset = next_offset_;
    next_offset_ += load_.step_bytes == 0 ? load_.size_bytes : load_.step_bytes;
    if (next_offset_ > disk_.geometry().size_bytes - load_.size_bytes) next_offset_ = 0;
    return disk_offset;
  }

  disk::Disk& disk_;
  const Load& load_;
  std::mt19937_64 random_;
  struct Free {
    void operator()(void* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<void, Free> bytes_;  // a buffer for each lane
  uint64_t stride_bytes_;              // from one to the next
  uint64_t place_count_;
  uint64_t sent_ = 0;
  uint64_t next_offset_ = 0;
};

class Bench final : public Verb {
 public:
  const Page& page() const override { return bench_page; }
  bool changes_images() const override { return load_.writes; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image.");
    arguments.option("-c,--count", "N", size_into(load_.count), "Requests; 75000.");
    arguments.option("-d,--depth", "N", size_into(load_.depth), "In flight at once; 32.");
    arguments.option("-s,--buffer-size", "SIZE", size_into(load_.size_bytes),
                     "Of each request, whole sectors; 4K.");
    arguments.option("-S,--step-size", "SIZE", size_into(load_.step_bytes),
                     "From one request's offset to the next; the request's size.");
    arguments.flag("--random", load_.is_random, "Offsets anywhere, the same ones each time.");
    arguments.flag("-w,--write", load_.writes, "Write; without it only reads are sent.");
    arguments.option("--flush-interval", "N", size_into(load_.flush_interval),
                     "With -w: a flush after every N-th request.");
    declare_cache(arguments, open_.options);
    output_.declare(arguments);
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    open_.options.writable = load_.writes;
    TRY_LET(const auto image, loop.run(image::Image::open(loop, path_, open_.options)));
    print_warnings(*image);
    TRY(check(image->disk().geometry()));
    Sender sender(image->disk(), load_);
    const double cpu_before = cpu_seconds();
    const Clock::time_point start = Clock::now();
    auto sent = loop.run(sender.run());
    const double wall = std::chrono::duration<double>(Clock::now() - start).count();
    const double cpu = cpu_seconds() - cpu_before;
    auto closed = loop.run(image->disk().close());
    TRY(std::move(sent));
    TRY(std::move(closed));
    report(wall, cpu);
    return 0;
  }

 private:
  Result<void> check(const disk::Geometry& geometry) const {
    if (load_.count == 0 || load_.depth == 0 || load_.depth > 1024)
      return fail(Errc::invalid_argument, "at least one request, and 1 to 1024 of them at once");
    if (load_.size_bytes == 0 || load_.size_bytes > geometry.size_bytes ||
        load_.size_bytes > 64 * MiB)
      return fail(Errc::invalid_argument,
                  fmt::format("requests of {} bytes: 1 sector to 64 MiB, and not more than the "
                              "disk's {} bytes",
                              load_.size_bytes, geometry.size_bytes));
    if (load_.depth * load_.size_bytes > 4 * GiB)
      return fail(Errc::invalid_argument, "more than 4 GiB in flight at once");
    if (load_.flush_interval > 0 && !load_.writes)
      return fail(Errc::invalid_argument, "--flush-interval belongs to -w");
    return {};
  }

  void report(double wall, double cpu) const {
    const double rate = double(load_.count) / wall;
    const double cpu_us = cpu * 1e6 / double(load_.count);
    if (output_.json) {
      print(json_text({{"requests", load_.count},
                       {"seconds", wall},
                       {"requests-per-second", rate},
                       {"cpu-microseconds-per-request", cpu_us}}));
    } else {
      print(
          fmt::format("{} {} of {} bytes, {} at a time: {:.3f} s, {:.0f} a second, {:.2f} us of "
                      "CPU each\n",
                      load_.count, load_.writes ? "writes" : "reads", load_.size_bytes, load_.depth,
                      wall, rate, cpu_us));
    }
  }

  std::string path_;
  Load load_;
  OpenArguments open_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_bench() { return std::make_unique<Bench>(); }

}  // namespace vhdkit::tools
