#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "async/task_group.h"
#include "support/checked.h"
#include "tools/console.h"
#include "tools/io_command.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"Writes a pattern, makes it durable and looks whether it is there",
     "vhd io -c 'write -P 0xab 1M 64K' -c flush -c 'read -P 0xab 1M 64K' disk.vhdx"},
    {"Gives space back", "vhd io -c 'trim 0 1G' disk.vhdx"},
    {"Many commands, eight at a time", "vhd io --depth 8 disk.vhdx < commands"},
};
constexpr ExitCode exit_codes[] = {
    {0, "every command was carried out, and every pattern was there"},
    {1, "a command failed, a pattern was not there, or the image could not be opened or closed"},
};
constexpr Page io_page = {
    .summary = "reads and changes ranges of a disk, for scripts and tests",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Carries out commands, one after another, and closes the image cleanly. Without -c they "
        "come from standard input, one a line. Offsets and lengths are bytes of the disk, whole "
        "sectors, with K, M, G and T.\n\n"
        "read [-P BYTE | -S SEED] OFFSET LENGTH reads, and with a pattern compares. write [-P BYTE "
        "| -S SEED] [-f] OFFSET LENGTH writes a byte (0xcd unless said otherwise) or words that "
        "follow from the seed and their place; with -f they are durable when it ends. zero OFFSET "
        "LENGTH makes the range read as zeroes and gives back the blocks that it covers; trim and "
        "discard are other names of it. flush makes durable what ended before it.\n\n"
        "The image is opened for writing only if a command changes it. The first command that "
        "fails is the last one.",
    .examples = examples,
    .exit_codes = exit_codes,
};

constexpr uint64_t max_length = 1 * GiB;

std::string_view done_word(IoCommand::Kind kind) {
  switch (kind) {
    case IoCommand::Kind::read:
      return "read";
    case IoCommand::Kind::write:
      return "wrote";
    case IoCommand::Kind::zero:
      return "zeroed";
    case IoCommand::Kind::flush:
      return "flushed";
  }
  __builtin_unreachable();
}

// A command on its way to the disk.
class Request {
 public:
  Request(disk::Disk& disk, const IoCommand& command) : disk_(disk), command_(command) {}

  Async<void> run() {
    switch (command_.kind) {
      case IoCommand::Kind::read:
        co_return co_await read();
      case IoCommand::Kind::write:
        co_return co_await write();
      case IoCommand::Kind::zero:
        co_return co_await disk_.zero(command_.disk_offset, command_.length);
      case IoCommand::Kind::flush:
        co_return co_await disk_.flush();
    }
    __builtin_unreachable();
  }

 private:
  Async<void> write() {
    bytes_.resize(command_.length);
    command_.pattern->fill(command_.disk_offset, bytes_);
    const iovec vector{bytes_.data(), bytes_.size()};
    const Buffers buffers(&vector, 1);
    const auto durability = command_.is_durable ? Durability::durable : Durability::cached;
    co_return co_await disk_.write(command_.disk_offset, buffers, durability);
  }

  Async<void> read() {
    bytes_.resize(command_.length);
    const std::span<std::byte> buffer(bytes_);
    CO_TRY(co_await disk_.read(command_.disk_offset, buffer));
    if (!command_.pattern) co_return Result<void>();
    std::vector<std::byte> wanted(command_.length);
    command_.pattern->fill(command_.disk_offset, wanted);
    const auto [here, there] = std::ranges::mismatch(bytes_, wanted);
    if (here == bytes_.end()) co_return Result<void>();
    co_return fail(Errc::corrupt,
                   fmt::format("the pattern ends at disk offset {:#x}: {:#04x} instead of {:#04x}",
                               command_.disk_offset + uint64_t(here - bytes_.begin()),
                               unsigned(*here), unsigned(*there)));
  }

  disk::Disk& disk_;
  const IoCommand& command_;
  std::vector<std::byte> bytes_;
};

class Io final : public Verb {
 public:
  const Page& page() const override { return io_page; }
  bool changes_images() const override { return true; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image.");
    arguments.repeatable_option(
        "-c,--command", "COMMAND", [this](const std::string& value) { return take(value); },
        "A command, in the order given; as often as wanted.");
    arguments.option(
        "--depth", "N",
        [this](const std::string& value) -> Result<void> {
          TRY_LET(depth_, parse_size(value));
          if (depth_ >= 1 && depth_ <= 256) return {};
          return fail(Errc::invalid_argument, "the depth is 1 to 256");
        },
        "Commands in flight at once, 1 unless said otherwise. A flush waits for all before it.");
    declare_cache(arguments, open_.options);
    arguments.flag("-q,--quiet", is_quiet_, "Say nothing of what was done.");
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    // Whoever reads this through a pipe knows what is done while the rest goes on.
    setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
    if (commands_.empty()) TRY(read_commands());
    open_.options.writable =
        std::ranges::any_of(commands_, [](const IoCommand& one) { return one.changes_disk(); });
    TRY_LET(const auto image, loop.run(image::Image::open(loop, path_, open_.options)));
    print_warnings(*image);
    auto done = loop.run(run_all(image->disk()));
    auto closed = loop.run(image->disk().close());
    TRY(std::move(done));
    TRY(std::move(closed));
    return 0;
  }

 private:
  Result<void> take(const std::string& text) {
    TRY_LET(const IoCommand command, parse_io_command(text));
    if (command.length > max_length)
      if (command.kind == IoCommand::Kind::read || command.kind == IoCommand::Kind::write)
        return fail(Errc::invalid_argument,
                    fmt::format("\"{}\": reads and writes are of 1 GiB at most", text));
    commands_.push_back(command);
    return {};
  }

  Result<void> read_commands() {
    for (std::string line; std::getline(std::cin, line);)
      if (!line.empty()) TRY(take(line));
    return {};
  }

  Async<void> run_all(disk::Disk& disk) {
    for (size_t next = 0; next < commands_.size();) {
      if (interrupted()) co_return fail(Errc::interrupted, "interrupted");
      const size_t count = batch_at(next);
      CO_TRY(co_await run_batch(disk, next, count));
      for (size_t i = next; i < next + count && !is_quiet_; ++i) report(commands_[i]);
      next += count;
    }
    co_return Result<void>();
  }

  // How many commands may run at once from this one on.
  size_t batch_at(size_t first) const {
    size_t count = 1;
    while (count < depth_ && first + count < commands_.size() &&
           commands_[first].kind != IoCommand::Kind::flush &&
           commands_[first + count].kind != IoCommand::Kind::flush)
      ++count;
    return count;
  }

  Async<void> run_batch(disk::Disk& disk, size_t first, size_t count) {
    std::vector<Request> requests;
    requests.reserve(count);
    async::TaskGroup tasks;
    for (size_t i = first; i < first + count; ++i)
      tasks.start(requests.emplace_back(disk, commands_[i]).run());
    co_return co_await tasks.finish();
  }

  static void report(const IoCommand& command) {
    if (command.kind == IoCommand::Kind::flush) {
      print("flushed\n");
    } else {
      print(fmt::format("{} {} bytes at {}\n", done_word(command.kind), command.length,
                        command.disk_offset));
    }
  }

  std::string path_;
  std::vector<IoCommand> commands_;
  uint64_t depth_ = 1;
  bool is_quiet_ = false;
  OpenArguments open_;
};

}  // namespace

std::unique_ptr<Verb> make_io() { return std::make_unique<Io>(); }

}  // namespace vhdkit::tools
