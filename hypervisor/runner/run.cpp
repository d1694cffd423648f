#include "hypervisor/runner/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "hypervisor/boot/platform.h"
#include "hypervisor/control/server.h"
#include "hypervisor/kvm/trial.h"
#include "hypervisor/runner/disk_option.h"
#include "hypervisor/runner/output_file.h"
#include "hypervisor/runner/reachable_paths.h"
#include "hypervisor/runner/stop_signals.h"
#include "hypervisor/sandbox/privileges.h"
#include "tools/console.h"
#include "tools/latency_svg.h"
#include "tools/options.h"
#include "tools/text.h"

namespace vhdkit::hypervisor {
namespace {

using tools::Arguments;

constexpr tools::Example examples[] = {
    {"A disk with its own boot loader (GRUB or syslinux, for a BIOS)",
     "vhd-run --memory 2G --disk debian.vhdx"},
    {"A kernel with its initrd, and its root file system in a VHDX",
     "vhd-run --kernel vmlinuz --initrd initrd.img --append 'root=/dev/sda console=ttyS0' --disk "
     "root.vhdx"},
    {"Two processors, 2 GiB, a second disk that is only read and one past the page cache",
     "vhd-run --cpus 2 --memory 2G --kernel vmlinuz --append console=ttyS0 --disk a.vhdx --disk "
     "b.vhd,ro --disk c.vhdx,cache=none"},
    {"At most 500 requests and 50 MiB a second for a disk",
     "vhd-run --kernel vmlinuz --disk a.vhdx,iops=500,bps=50M"},
    {"A guest that vhd ctl looks at and steers",
     "vhd-run --control /run/guest.ctl --kernel vmlinuz --disk a.vhdx"},
    {"To try something out: the disk is afterwards as it was before",
     "vhd-run --undo discard --kernel vmlinuz --disk a.vhdx"},
    {"Started by root, with another user's rights and disks",
     "vhd-run --user vm --control /vm/guest.ctl --files /vm/media --disk /vm/debian.vhdx"},
    {"The console on a socket, for socat or a terminal server",
     "vhd-run --console unix:/run/guest.sock --kernel vmlinuz --disk a.vhdx"},
};

constexpr tools::ExitCode exit_codes[] = {
    {int(ExitCode::power_off), "the guest switched itself off, or somebody left by Ctrl-A x"},
    {int(ExitCode::bad_start), "it could not begin: arguments, files, disks"},
    {int(ExitCode::no_kvm), "KVM is not there, not allowed, or cannot run our guests"},
    {int(ExitCode::crash), "the guest's kernel gave up; the end of its log was shown"},
    {int(ExitCode::triple_fault), "a triple fault: the guest met what it could not handle"},
    {int(ExitCode::failure), "the machine could not go on: KVM failed, or a restart did"},
    {int(ExitCode::restart), "the guest wanted a restart, and --no-reboot was said"},
    {int(ExitCode::unclean), "a disk could not be closed cleanly: what was flushed is there"},
    {int(ExitCode::no_loader),
     "the first disk cannot be booted: it is empty, has no boot loader, has sectors of 4096 bytes, "
     "or was taken away before a restart"},
    {int(ExitCode::no_boot), "the disk's boot loader found nothing to boot"},
    {int(ExitCode::no_report), "the report could not be written; everything else was done"},
    {128, "and more: ended by a signal, 128 and its number; the disks were closed"},
};

constexpr tools::Page run_page = {
    .summary = "runs a guest from virtual disks, over VMBus",
    .synopsis = "[OPTION...] [--kernel FILE] [--disk FILE...]",
    .description =
        "Starts a machine as Hyper-V has them, with KVM: the guest finds \"Microsoft Hv\", a "
        "VMBus, "
        "and its disks behind synthetic SCSI controllers, and needs no drivers but its own. VHD, "
        "VHDX, differencing chains and raw files are used as they are, locked while the guest "
        "runs, and closed cleanly at its end. A kernel (bzImage, or ELF with a PVH entry) and its "
        "initrd are loaded directly. Without one, the first disk's own boot loader is started, as "
        "a PC's BIOS does it: it finds every disk with sectors of 512 bytes, and its screen and "
        "keyboard are the console; the arrow keys are those of a terminal.\n\n"
        "The guest finds Hyper-V's integration services as well: it can be asked to power off, "
        "says that it lives, takes the host's time, and says its names and addresses, which "
        "--report has.\n\n"
        "The guest's first serial port is on standard input and output: Ctrl-A p asks the guest to "
        "power off, Ctrl-A x leaves, Ctrl-A h says what else there is. Leaving, SIGINT and SIGTERM "
        "switch the guest off as a plug does: what it has not flushed is lost.\n\n"
        "A guest is not trusted: before a disk is looked at the runner gives up all capabilities "
        "(so that root is left with the rights of the owner of root's files; --user takes "
        "others') and all of the kernel's calls that it does not need: the first forbidden one "
        "ends it by SIGSYS. Once it knows its disks' parents it gives up every path but its disks, "
        "these parents and the disks' folders, and then each of its threads all calls but its own. "
        "Disks are made in the folders only with --undo or --control. A kernel and its initrd are "
        "opened once: a restart takes the same ones, whatever their paths lead to by then.",
    .examples = examples,
    .exit_codes = exit_codes,
};

tools::Take count_into(unsigned& target, unsigned most) {
  return [&target, most](const std::string& value) -> Result<void> {
    TRY_LET(const uint64_t count, tools::parse_count(value, most));
    target = unsigned(count);
    return {};
  };
}

ExitCode code_of(End end) {
  switch (end) {
    case End::power_off:
    case End::stopped:
      return ExitCode::power_off;
    case End::reset:
      return ExitCode::restart;
    case End::no_loader:
      return ExitCode::no_loader;
    case End::no_boot:
      return ExitCode::no_boot;
    case End::crash:
      return ExitCode::crash;
    case End::triple_fault:
      return ExitCode::triple_fault;
    case End::failure:
      break;
  }
  return ExitCode::failure;
}

// The end of a kernel's log: many lines.
void tell_lines(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    // The guest's own words.
    tools::say(tools::printable(text.substr(0, end)));
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
  }
}

void tell(const Ending& ending) {
  switch (ending.end) {
    case End::crash:
      tools::complain("the guest's kernel gave up");
      return tell_lines(ending.message);
    case End::no_boot:
      return tools::complain("the disk's boot loader found nothing to boot");
    case End::no_loader:
    case End::triple_fault:
    case End::failure:
      return tools::complain(ending.message);
    case End::reset:
      return tools::say("the guest wanted a restart");
    case End::power_off:
    case End::stopped:
      return;
  }
}

constexpr std::string_view root_has_less =
    "; in the sandbox root has the rights of the owner of root's files, and no others: --user "
    "takes somebody else's";

// A huge page fits into glibc's stacks of 8 MiB, and where it lies right the kernel gives a whole
// one for the first byte.
void keep_stacks_small() {
  constexpr size_t stack_bytes = size_t{1} << 20;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return;
  if (pthread_attr_setstacksize(&attributes, stack_bytes) == 0)
    pthread_setattr_default_np(&attributes);
  pthread_attr_destroy(&attributes);
}

Result<Kvm> usable_kvm() {
  TRY_LET(Kvm kvm, Kvm::open());
  TRY(try_long_mode(kvm));
  return kvm;
}

// Passes the wish to stop on to the machine, also where it came before there was one; other wishes
// only while there is one.
class Stopper {
 public:
  void stop() {
    const std::lock_guard lock(mutex_);
    is_stopped_ = true;
    if (machine_ != nullptr) machine_->stop();
  }
  void ask_to_power_off() {
    const std::lock_guard lock(mutex_);
    if (machine_ == nullptr) return tools::say("there is no guest to be asked");
    machine_->ask_to_power_off();
  }
  void set_machine(Machine* machine) {
    const std::lock_guard lock(mutex_);
    machine_ = machine;
    if (machine_ != nullptr && is_stopped_) machine_->stop();
  }

 private:
  std::mutex mutex_;
  Machine* machine_ = nullptr;
  bool is_stopped_ = false;
};

}  // namespace

const tools::Page& Run::page() const { return run_page; }

void Run::declare(Arguments& arguments) {
  arguments.option("--kernel,-k", "FILE", tools::into(kernel_),
                   "The guest's kernel: a bzImage, or an ELF file. Without one the first disk's "
                   "boot loader is started.");
  arguments.option("--initrd,-i", "FILE", tools::into(initrd_), "Its initial RAM disk.");
  arguments.option("--append,-a", "TEXT", tools::into(plan_.command_line),
                   "Its command line, such as \"console=ttyS0 root=/dev/sda\".");
  arguments.repeatable_option(
      "--disk,-d", "FILE[,OPTION...]",
      [this](const std::string& value) -> Result<void> {
        if (plan_.disks.size() == Storage::max_disks)
          return fail(Errc::invalid_argument, "there are at most 64 disks");
        TRY_LET(auto disk, parse_disk(value));
        // As clients of the control socket name it.
        disk.path = tools::absolute_path(disk.path);
        plan_.disks.push_back(std::move(disk));
        return {};
      },
      "A disk: an image or a raw file, with ro, cache=none|writeback, format=FORMAT, iops=N and "
      "bps=SIZE behind it; a comma in its name stands twice.");
  arguments.option(
      "--undo", "END",
      [this](const std::string& value) -> Result<void> {
        plan_.undo = parse_undo_end(value);
        if (plan_.undo) return {};
        return fail(Errc::invalid_argument, "keep, merge or discard is wanted");
      },
      "Leave the disks as they are: what the guest writes goes into a differencing child of each "
      "writable one (FILE.undo.avhdx), and at the end is kept there for the next run, merged into "
      "the disk, or discarded. What a run that was killed has left is treated so at the next "
      "start; a merge that had begun is finished then, whatever is wanted. Without --undo a VHD "
      "that has such a child is refused unless it is ,ro.");
  arguments.option(
      "--iso", "FILE",
      [this](const std::string& value) -> Result<void> {
        plan_.iso = tools::absolute_path(value);
        return {};
      },
      "An ISO image, in a DVD drive.");
  arguments.option("--memory,-m", "SIZE", tools::size_into(plan_.memory_bytes),
                   "Memory, a multiple of 2M; 512M unless said.");
  arguments.option("--cpus,-c", "N", count_into(plan_.processor_count, platform::max_vp_count),
                   "Processors, 1 to 32; 1 unless said.");
  arguments.option("--controllers", "N",
                   count_into(plan_.controller_count, Storage::max_controllers),
                   "Storage controllers, 1 or 2; disks are spread over them.");
  arguments.option(
      "--console", "WHERE",
      [this](const std::string& value) { return parse_console(value, console_options_); },
      "The guest's first serial port: stdio, unix:PATH or none; stdio unless said.");
  arguments.option("--console-log", "FILE", tools::into(console_options_.log_path),
                   "Keep what the guest says on it.");
  arguments.option("--control", "PATH", tools::into(control_),
                   "A socket on which vhd ctl tells and changes what the machine does.");
  declare_isolation(arguments);
  arguments.flag("--no-reboot", stays_down_, "End where the guest wants a restart.");
  arguments.option("--report", "FILE", tools::into(report_),
                   "At the end, write what was counted of disks, channels and exits, and what the "
                   "guest's services said, as JSON.");
  arguments.option(
      "--output", "FORM",
      [this](const std::string& value) -> Result<void> {
        report_is_picture_ = value == "svg";
        if (*report_is_picture_ || value == "json") return {};
        return fail(Errc::invalid_argument,
                    fmt::format("\"{}\" is neither \"json\" nor \"svg\"", value));
      },
      "Of --report: \"json\" (the default), or \"svg\": a picture of how long the requests of each "
      "disk took.");
}

void Run::declare_isolation(Arguments& arguments) {
  arguments.option(
      "--sandbox", "on|off",
      [this](const std::string& value) -> Result<void> {
        has_sandbox_ = value == "on";
        if (has_sandbox_ || value == "off") return {};
        return fail(Errc::invalid_argument, "on or off is wanted");
      },
      "Whether the runner gives up what it does not need: capabilities and the kernel's calls "
      "before it looks at a disk, paths before it opens one for the guest. On unless said; off is "
      "for debuggers.");
  arguments.option(
      "--user", "USER[:GROUP]",
      [this](const std::string& value) -> Result<void> {
        TRY_LET(user_, parse_user(value));
        return {};
      },
      "Become this user once /dev/kvm, sockets and logs are open, by names or numbers; it needs "
      "root. The disks, the kernel and the initrd are opened with its rights, and with those the "
      "sockets' files are removed at the end: in a folder that is not the user's they stay.");
  arguments.repeatable_option(
      "--files", "FOLDER",
      [this](const std::string& value) -> Result<void> {
        std::error_code error;
        if (!std::filesystem::is_directory(value, error))
          return fail(Errc::invalid_argument, value + ": is no folder");
        folders_.push_back(value);
        return {};
      },
      "A folder, with what is below it, of disks and media that vhd ctl may bring later, beside "
      "the disks' own folders. The sandbox keeps all others away.");
}

Result<int> Run::run(async::Loop&) { return run(); }

int Run::run() {
  const auto code = run_machine();
  if (code) return *code;
  complain_of(code.error());
  return int(ExitCode::bad_start);
}

void Run::complain_of(const Error& error) const {
  const bool lacks_rights = error.code == Errc::permission && is_powerless_root_;
  tools::complain(error.message + std::string(lacks_rights ? root_has_less : ""));
}

Result<void> Run::check_plan() const {
  if (report_is_picture_ && !report_)
    return fail(Errc::invalid_argument, "--output belongs to a --report, and there is none");
  if (!kernel_.empty()) return {};
  if (!initrd_.empty())
    return fail(Errc::invalid_argument, "--initrd belongs to a --kernel, and there is none");
  if (!plan_.command_line.empty())
    return fail(Errc::invalid_argument, "--append belongs to a --kernel, and there is none");
  if (plan_.disks.empty())
    return fail(Errc::invalid_argument, "there is nothing to run: neither a --kernel nor a --disk");
  return {};
}

// What cannot be written is found out now, and not when the guest is off; the file is changed then.
Result<void> Run::open_report() {
  if (!report_) return {};
  TRY_LET(report_file_, open_to_write(*report_, 0));
  // Whoever reads from a pipe may take its time.
  if (fcntl(report_file_.number(), F_SETFL, 0) != 0) return fail_errno(errno, *report_);
  return {};
}

Result<void> Run::write_report(const std::string& report) const {
  if (!report_) return {};
  // A pipe cannot be cut, and need not.
  if (ftruncate(report_file_.number(), 0) != 0 && errno != EINVAL)
    return fail_errno(errno, *report_);
  for (size_t at = 0; at < report.size();) {
    const ssize_t count = write(report_file_.number(), report.data() + at, report.size() - at);
    if (count < 0 && errno != EINTR) return fail_errno(errno, *report_);
    at += size_t(std::max<ssize_t>(count, 0));
  }
  return {};
}

Result<void> Run::open_boot_files() {
  if (!kernel_.empty()) {
    TRY_LET(plan_.kernel, BootFile::open(kernel_));
  }
  if (!initrd_.empty()) {
    TRY_LET(plan_.initrd, BootFile::open(initrd_));
  }
  return {};
}

// The disks are not looked at before it has no rights but those that it will keep: what opens now
// opens later, too.
Result<void> Run::isolate() {
  if (has_sandbox_) {
    TRY(check_disks_are_free(plan_));
  }
  if (user_) {
    TRY(become(*user_));
  }
  if (has_sandbox_) {
    TRY(drop_capabilities());
    is_powerless_root_ = geteuid() == 0;
  }
  TRY(open_boot_files());
  return has_sandbox_ ? confine_itself() : Result<void>();
}

Result<void> Run::confine_itself() {
  RunnerPaths paths{.sockets = {}, .folders = folders_, .is_controlled = control_.has_value()};
  if (control_) paths.sockets.push_back(*control_);
  if (!console_options_.socket_path.empty()) paths.sockets.push_back(console_options_.socket_path);
  TRY_LET(plan_.confinement, confine([&] { return reachable_paths(plan_, paths); }));
  if (!plan_.confinement->landlock_version)
    tools::warn("this kernel has no Landlock: the sandbox keeps no paths away");
  if (!plan_.confinement->has_filters)
    tools::warn("built with a sanitizer: the sandbox keeps no calls away");
  return {};
}

Result<int> Run::run_machine() {
  TRY(check_plan());
  plan_.restarts = !stays_down_;
  keep_stacks_small();
  // Whoever closes the console's other end ends nothing, and its terminal stops nothing.
  for (const int one : {SIGPIPE, SIGTTIN, SIGTTOU}) signal(one, SIG_IGN);
  Stopper stopper;
  StopSignals signals([&] { stopper.stop(); });
  const auto kvm = usable_kvm();
  if (!kvm) {
    tools::complain(kvm.error().message);
    return int(ExitCode::no_kvm);
  }
  std::unique_ptr<ControlServer> control;
  if (control_) {
    TRY_LET(control, ControlServer::listen(*control_, ControlServer::Limits()));
  }
  TRY_LET(const auto console,
          Console::open(console_options_, {.leave = [&] { stopper.stop(); },
                                           .power_off = [&] { stopper.ask_to_power_off(); }}));
  TRY(open_report());
  // Before any other thread is there.
  TRY(isolate());
  signals.listen();
  console->begin();
  TRY_LET(const auto machine,
          Machine::create(*kvm, plan_, *console, {.warn = &tools::warn, .tell = &tools::say}));
  stopper.set_machine(machine.get());
  if (control != nullptr) control->serve(*machine);
  enter(ThreadKind::main);
  const auto ending = machine->run();
  // Nobody asks for anything any more.
  control.reset();
  stopper.set_machine(nullptr);
  const int code = finish(*machine, ending);
  // Whoever ends it by a signal has to know what that has left.
  const bool is_done = code != int(ExitCode::unclean) && code != int(ExitCode::no_report);
  return signals.caught() != 0 && is_done ? 128 + signals.caught() : code;
}

std::string Run::report_of(Machine& machine) const {
  if (!report_) return "";
  return report_is_picture_.value_or(false) ? tools::latency_svg(machine.counters())
                                            : machine.report() + "\n";
}

int Run::finish(Machine& machine, const Result<Ending>& ending) {
  // Our own messages end their lines as usual again.
  RawTerminal::restore();
  if (ending) {
    tell(*ending);
  } else {
    complain_of(ending.error());
  }
  const std::string report = report_of(machine);
  const auto closed = machine.close();
  if (!closed) tools::complain(closed.error().message);
  // Whoever reads from a pipe may take its time, and the disks do not wait for that.
  const auto reported = write_report(report);
  if (!reported) tools::complain(reported.error().message);
  if (!closed) return int(ExitCode::unclean);
  if (!ending) return int(machine.has_run() ? ExitCode::failure : ExitCode::bad_start);
  return reported ? int(code_of(ending->end)) : int(ExitCode::no_report);
}

}  // namespace vhdkit::hypervisor
