// The words of vhd-run.
#pragma once

#include "hypervisor/runner/machine.h"
#include "hypervisor/sandbox/user.h"
#include "tools/verb.h"

namespace vhdkit::hypervisor {

// What the program says to whoever started it.
enum class ExitCode : int {
  power_off = 0,     // also where somebody left by the console
  bad_start = 1,     // arguments, files, disks
  no_kvm = 2,        // not there, not allowed, not able
  crash = 3,         // the guest's kernel gave up
  triple_fault = 4,  // the guest met what it could not handle
  failure = 5,       // KVM could not go on, or a restart failed
  restart = 6,       // wanted, with --no-reboot
  unclean = 7,       // a disk could not be closed
  no_loader = 8,     // the first disk has no boot loader that a BIOS can start, or is gone
  no_boot = 9,       // the boot loader found nothing to boot
  no_report = 10,    // all else was done
};

class Run final : public tools::Verb {
 public:
  const tools::Page& page() const override;
  void declare(tools::Arguments& arguments) override;
  // Has loops of its own, and leaves this one alone.
  Result<int> run(async::Loop& loop) override;
  bool changes_images() const override { return true; }
  // As run(), and says what went wrong. Returns the exit code.
  int run();

 private:
  void declare_isolation(tools::Arguments& arguments);
  Result<void> check_plan() const;
  Result<void> open_report();
  Result<void> write_report(const std::string& report) const;
  Result<void> open_boot_files();
  Result<void> isolate();
  Result<void> confine_itself();
  std::string report_of(Machine& machine) const;
  Result<int> run_machine();
  int finish(Machine& machine, const Result<Ending>& ending);
  void complain_of(const Error& error) const;

  MachinePlan plan_;
  std::string kernel_;
  std::string initrd_;
  ConsoleOptions console_options_;
  std::optional<std::string> control_;
  std::optional<std::string> report_;
  Descriptor report_file_;
  std::optional<User> user_;
  std::vector<std::string> folders_;  // of --files
  bool has_sandbox_ = true;
  bool is_powerless_root_ = false;
  std::optional<bool> report_is_picture_;
  bool stays_down_ = false;
};

}  // namespace vhdkit::hypervisor
