#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "tools/console.h"
#include "tools/control_client.h"
#include "tools/control_text.h"
#include "tools/latency_svg.h"
#include "tools/options.h"
#include "tools/text.h"
#include "tools/top.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"What does the guest of vhd-run --control /run/guest.ctl do?",
     "vhd ctl /run/guest.ctl status"},
    {"One more disk", "vhd ctl /run/guest.ctl add-disk data.vhdx"},
    {"10 GiB more for the first disk; then the guest's file system may grow",
     "vhd ctl /run/guest.ctl resize-disk 0 +10G"},
    {"A backup of a running guest's disks: the parents stay as they are now",
     "vhd ctl --freeze /run/guest.ctl snapshot"},
    {"What was counted, for a program", "vhd ctl --output=json /run/guest.ctl counters"},
    {"How long its requests took, as a picture",
     "vhd ctl --output=svg /run/guest.ctl counters >guest.svg"},
    {"What its disks and processors do all the time", "vhd ctl /run/guest.ctl top"},
    {"The same into a file: ten minutes, one a minute",
     "vhd ctl -n 10 --interval 60 /run/guest.ctl top >guest.txt"},
};
constexpr ExitCode exit_codes[] = {
    {0, "it was done; top was left by q"},
    {1, "the machine refused, and said why"},
    {2, "nobody answers on the socket, or the words were wrong"},
};
constexpr Page ctl_page = {
    .summary = "tells and changes what a running guest's machine does",
    .synopsis = "[OPTION...] SOCKET COMMAND [ARGUMENT...]",
    .description =
        "Speaks to vhd-run through the socket of its --control. Returns when the command was "
        "done.\n\n"
        "status: state, processors, memory, console, sandbox, disks. counters: what was counted of "
        "disks, "
        "channels and exits.\n\n"
        "top: rates of disks, channels and processors, and the times that requests took, again and "
        "again: half of them took less than p50, 95 of 100 less than p95. These times are known by "
        "powers of two, and so may be wrong by a factor of two. On a terminal q ends it; elsewhere "
        "it prints a block of lines for each interval.\n\n"
        "pause, resume: the processors stop, and the guest's clocks with them; nothing times "
        "out.\n\n"
        "shut-down, restart: the guest is asked to, by its integration services, and takes its "
        "time. power-off, reset: as a plug and a button do; what the guest has not flushed is "
        "lost.\n\n"
        "add-disk FILE[,OPTION...]: as vhd-run's --disk; the guest sees it at once. remove-disk "
        "DISK: what runs is finished, and the disk leaves. DISK is a number or a file, as status "
        "shows them.\n\n"
        "snapshot [DISK]: a differencing child takes the place of the disk's image, or of all, "
        "while the guest runs; the image that was there stays as it is, as after a crash. With "
        "--freeze the guest's file systems are consistent in it, which its hv_vss_daemon sees to. "
        "vhd merge puts the child back, once the guest is off.\n\n"
        "resize-disk DISK [+|-]SIZE: as vhd resize does it, while the guest runs and is told; "
        "Linux takes the new size at once. What the guest asks for waits meanwhile: while a fixed "
        "VHD is copied, if its file system does not share content, that takes long. A smaller size "
        "needs --shrink; make the guest's file system smaller first. An undo disk is resized in "
        "its disk's place: merged, it gives the disk its size. Refused are disks that are "
        "read-only, devices, differencing VHDs, and images that have children.\n\n"
        "insert-media FILE, eject-media: an ISO image in the machine's DVD drive.\n\n"
        "The socket takes JSON lines from any program: {\"id\": 1, \"command\": \"status\"} is "
        "answered with {\"id\": 1, \"result\": {...}} or with an \"error\" that has \"kind\" and "
        "\"message\".",
    .examples = examples,
    .exit_codes = exit_codes,
};

enum class Takes : uint8_t { nothing, new_disk, disk, perhaps_disk, disk_and_size, file };

// Not a command of the runner's: it asks for others, again and again.
constexpr std::string_view top_name = "top";

struct Command {
  std::string_view name;
  Takes takes;
  std::string (*text)(const Json& result);  // for people; null: nothing is said
};

constexpr Command commands[] = {
    {"status", Takes::nothing, status_text},
    {"counters", Takes::nothing, counters_text},
    {top_name, Takes::nothing, nullptr},
    {"pause", Takes::nothing, nullptr},
    {"resume", Takes::nothing, nullptr},
    {"shut-down", Takes::nothing, nullptr},
    {"restart", Takes::nothing, nullptr},
    {"power-off", Takes::nothing, nullptr},
    {"reset", Takes::nothing, nullptr},
    {"add-disk", Takes::new_disk, added_disk_text},
    {"remove-disk", Takes::disk, nullptr},
    {"snapshot", Takes::perhaps_disk, snapshots_text},
    {"resize-disk", Takes::disk_and_size, resized_disk_text},
    {"insert-media", Takes::file, nullptr},
    {"eject-media", Takes::nothing, nullptr},
};

Result<const Command*> find_command(const std::string& name) {
  const auto found = std::ranges::find(commands, name, &Command::name);
  if (found != std::end(commands)) return found;
  std::string all;
  for (const Command& command : commands)
    all += (all.empty() ? "" : ", ") + std::string(command.name);
  return fail(Errc::invalid_argument,
              fmt::format("there is no command \"{}\": {}", printable(name), all));
}

// Before a disk's words, where commas stand twice.
std::string absolute_words(const std::string& words) {
  if (words.starts_with('/')) return words;
  std::string folder;
  for (const char letter : absolute_path("x"))
    folder += letter == ',' ? ",," : std::string(1, letter);
  folder.pop_back();
  return folder + words;
}

// Digits are a number; "./7" is a file.
Json disk_name(const std::string& name) {
  uint64_t number = 0;
  const auto [rest, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error == std::errc() && rest == name.data() + name.size()) return number;
  return absolute_path(name);
}

// The words behind a command.
struct Words {
  std::optional<std::string> argument;
  std::optional<std::string> size;
};

std::string_view missing(const Command& command, const Words& words) {
  if (words.argument) return command.takes == Takes::disk_and_size && !words.size ? "a size" : "";
  switch (command.takes) {
    case Takes::nothing:
    case Takes::perhaps_disk:
      return "";
    case Takes::disk:
    case Takes::disk_and_size:
      return "a disk";
    case Takes::new_disk:
    case Takes::file:
      return "a file";
  }
  __builtin_unreachable();
}

Result<void> check_words(const Command& command, const Words& words) {
  if (words.argument && command.takes == Takes::nothing)
    return fail(Errc::invalid_argument, fmt::format("{} takes no argument", command.name));
  if (words.size && command.takes != Takes::disk_and_size)
    return fail(Errc::invalid_argument, fmt::format("{} takes one argument", command.name));
  if (const auto what = missing(command, words); !what.empty())
    return fail(Errc::invalid_argument, fmt::format("{} needs {}", command.name, what));
  return {};
}

Result<Json> parameters_of(const Command& command, const Words& words) {
  TRY(check_words(command, words));
  if (!words.argument) return Json::object();
  switch (command.takes) {
    case Takes::new_disk:
      return Json{{"disk", absolute_words(*words.argument)}};
    case Takes::disk:
    case Takes::perhaps_disk:
      return Json{{"disk", disk_name(*words.argument)}};
    case Takes::disk_and_size: {
      TRY(parse_size_change(*words.size));
      return Json{{"disk", disk_name(*words.argument)}, {"size", *words.size}};
    }
    case Takes::file:
      return Json{{"filename", absolute_path(*words.argument)}};
    case Takes::nothing:
      break;
  }
  return Json::object();
}

Take interval_into(std::optional<std::chrono::duration<double>>& interval) {
  return [&interval](const std::string& value) -> Result<void> {
    double seconds = 0;
    const char* const end = value.data() + value.size();
    const auto [rest, error] = std::from_chars(value.data(), end, seconds);
    constexpr double shortest = 0.1;
    constexpr double longest = 86400;
    // Not a number is not in between either.
    if (error != std::errc() || rest != end || !(seconds >= shortest && seconds <= longest))
      return fail(Errc::invalid_argument, "seconds are wanted, from 0.1 to 86400");
    interval = std::chrono::duration<double>(seconds);
    return {};
  };
}

Take count_into(std::optional<uint64_t>& count) {
  return [&count](const std::string& value) -> Result<void> {
    TRY_LET(count, parse_count(value));
    return {};
  };
}

class Ctl final : public Verb {
 public:
  const Page& page() const override { return ctl_page; }
  int failure_code() const override { return 2; }

  void declare(Arguments& arguments) override {
    arguments.positional("SOCKET", socket_, "The machine's control socket.");
    arguments.positional("COMMAND", command_, "What it shall do.");
    arguments.optional_positional("ARGUMENT", into(words_.argument), "Of the command.");
    arguments.optional_positional("SIZE", into(words_.size),
                                  "Of resize-disk: bytes, or with K, M, G, T behind them; + and -: "
                                  "by that much.");
    arguments.flag("--freeze", freezes_, "With snapshot: freeze the guest's file systems for it.");
    arguments.flag("--shrink", shrinks_, "With resize-disk: allow a smaller size.");
    arguments.option("-n,--count", "COUNT", count_into(count_),
                     "With top: end after so many intervals.");
    arguments.option("--interval", "SECONDS", interval_into(interval_),
                     "With top: how long an interval is; 2 unless said.");
    output_.declare_with_svg(arguments, "with counters, a picture of how long requests took");
  }

  Result<int> run(async::Loop&) override {
    TRY_LET(const Command* const command, find_command(command_));
    TRY_LET(Json parameters, parameters_of(*command, words_));
    TRY(check_options(*command));
    if (freezes_) parameters["freeze"] = true;
    if (shrinks_) parameters["shrink"] = true;
    TRY_LET(ControlClient client, ControlClient::connect(socket_));
    if (command->name == top_name) return run_top(client, top_options());
    TRY_LET(const ControlAnswer answer, client.ask(command->name, parameters));
    if (!answer.error_kind.empty()) {
      complain(printable(answer.error_message));
      if (output_.json)
        print(json_text(
            {{"error", {{"kind", answer.error_kind}, {"message", answer.error_message}}}}));
      return 1;
    }
    if (output_.json) {
      print(json_text(answer.result));
    } else if (output_.svg) {
      print(latency_svg(answer.result));
    } else if (command->text != nullptr) {
      print(command->text(answer.result));
    }
    return 0;
  }

 private:
  Result<void> check_options(const Command& command) const {
    if (freezes_ && command.takes != Takes::perhaps_disk)
      return fail(Errc::invalid_argument, "--freeze belongs to snapshot");
    if (shrinks_ && command.takes != Takes::disk_and_size)
      return fail(Errc::invalid_argument, "--shrink belongs to resize-disk");
    if (output_.svg && command.name != "counters")
      return fail(Errc::invalid_argument, "--output=svg belongs to counters");
    const bool is_top = command.name == top_name;
    if ((count_ || interval_) && !is_top)
      return fail(Errc::invalid_argument, "-n and --interval belong to top");
    if (output_.json && is_top)
      return fail(Errc::invalid_argument, "top is for people; counters has JSON");
    return {};
  }

  TopOptions top_options() const {
    TopOptions options{.count = count_};
    if (interval_) options.interval = *interval_;
    return options;
  }

  std::string socket_;
  std::string command_;
  Words words_;
  bool freezes_ = false;
  bool shrinks_ = false;
  std::optional<uint64_t> count_;
  std::optional<std::chrono::duration<double>> interval_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_ctl() { return std::make_unique<Ctl>(); }

}  // namespace vhdkit::tools
