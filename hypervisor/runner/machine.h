// A machine that people switch on: memory, processors, disks, a console, from one power-on to the
// next until it stays off.
#pragma once

#include "hypervisor/partition/partition.h"
#include "hypervisor/runner/console.h"
#include "hypervisor/runner/storage.h"

namespace vhdkit::hypervisor {

struct MachinePlan {
  uint64_t memory_bytes = uint64_t{512} << 20;
  unsigned processor_count = 1;
  std::string kernel;  // files
  std::string initrd;  // may be empty
  std::string command_line;
  std::vector<DiskPlan> disks;
  unsigned controller_count = 1;
  bool restarts = true;  // when the guest wants to
};

// One thread creates, runs and destroys it; stop() and report() may come from any.
class Machine {
 public:
  // What people should know: "warning: ...". Called on any thread.
  using Log = std::function<void(const std::string&)>;

  // Takes its memory and opens the disks. KVM and console outlive it. Errors: those of the images,
  // naming the file; invalid_argument; of the system.
  static Result<std::unique_ptr<Machine>> create(const Kvm& kvm, const MachinePlan& plan,
                                                 Console& console, Log log);

  // Runs the guest, restarts included, until it stays off. Once. Errors: those of loading the
  // kernel, naming its file.
  Result<Ending> run();
  void stop();
  // Closes the disks, each of them whatever happens to the others. Errors: the first one's.
  Result<void> close() { return storage_->close(); }

  // Disks, channels and exits, with what was counted of them, as JSON.
  std::string report();

 private:
  Machine(const Kvm& kvm, const MachinePlan& plan, Console& console, Log log)
      : kvm_(kvm), plan_(plan), console_(console), log_(std::move(log)) {}
  Result<void> create_parts();
  Result<void> attach_disks();
  Result<Ending> run_once();
  Result<Ending> run(Partition& partition, const Ports& ports);
  Result<Entry> load();
  void end(Ending ending);
  void set_current(Partition* partition);

  const Kvm& kvm_;
  MachinePlan plan_;
  Console& console_;
  Log log_;
  std::unique_ptr<GuestRam> ram_;
  std::unique_ptr<Synic> synic_;
  std::unique_ptr<Registers> registers_;
  std::unique_ptr<Storage> storage_;

  std::mutex mutex_;
  Partition* current_ = nullptr;  // the one that runs
  bool is_stopped_ = false;
  ExitCounts exits_{};  // of those that ran before
};

}  // namespace vhdkit::hypervisor
