// A machine that people switch on: memory, processors, disks, a console, from one power-on to the
// next until it stays off.
#pragma once

#include <atomic>
#include <future>

#include "hypervisor/bios/bios.h"
#include "hypervisor/control/controls.h"
#include "hypervisor/kvm/memory_ahead.h"
#include "hypervisor/partition/partition.h"
#include "hypervisor/runner/console.h"
#include "hypervisor/runner/devices.h"
#include "hypervisor/runner/file_content.h"
#include "hypervisor/runner/guest_services.h"
#include "hypervisor/runner/storage.h"
#include "hypervisor/sandbox/sandbox.h"

namespace vhdkit::hypervisor {

struct MachinePlan {
  uint64_t memory_bytes = uint64_t{512} << 20;
  unsigned processor_count = 1;
  std::shared_ptr<const BootFile> kernel;  // null: the first disk's boot loader is started
  std::shared_ptr<const BootFile> initrd;  // null: none
  std::string command_line;
  std::vector<DiskPlan> disks;
  std::optional<UndoEnd> undo;     // of the writable ones
  std::optional<std::string> iso;  // in a DVD drive, behind the disks
  unsigned controller_count = 1;
  bool restarts = true;                    // when the guest wants to
  std::optional<Confinement> confinement;  // what the process runs in; nothing: no sandbox
};

// One thread creates, runs and destroys it; stop(), ask_to_power_off(), report() and the controls
// may come from any.
class Machine final : public Controls {
 public:
  // Called on any thread.
  using Say = std::function<void(const std::string&)>;
  struct Voices {
    Say warn;  // what may be wrong
    Say tell;  // what people should know
  };

  // Takes its memory and opens the disks. KVM and console outlive it. Errors: those of the images,
  // naming the file; invalid_argument; of the system.
  static Result<std::unique_ptr<Machine>> create(const Kvm& kvm, const MachinePlan& plan,
                                                 Console& console, Voices voices);

  // Runs the guest, restarts included, until it stays off. Once. Errors: those of loading the
  // kernel, naming its file; of reading the first disk, naming it; of the system; has_run() tells
  // whether it was a restart that failed. A disk without a boot loader is an ending, and so is one
  // that was taken away: none of the others is booted in its place.
  Result<Ending> run();
  // Whether the guest was ever switched on. Of the thread of run().
  bool has_run() const { return has_run_; }
  void stop();
  // The guest is asked by its shutdown service, and who warns is told where that fails. Waits for
  // nothing.
  void ask_to_power_off();
  // Closes the disks, each of them whatever happens to the others, and ends their undo disks.
  // Errors: the first one's; who warns is told the others.
  Result<void> close();

  // Disks, channels, exits and services, with what was counted of them, as JSON.
  std::string report();

  Json status() override;
  Json counters() override;
  Result<void> pause() override;
  Result<void> resume() override;
  Result<void> shut_down(bool restarts) override;
  Result<void> power_off() override;
  Result<void> reset() override;
  Result<Json> add_disk(const std::string& words) override;
  Result<void> remove_disk(const DiskName& name) override;
  Result<Json> snapshot(const std::optional<DiskName>& name, bool freezes) override;
  Result<Json> resize_disk(const DiskName& name, const std::string& size, bool shrinks) override;
  Result<void> insert_media(const std::string& path) override;
  Result<void> eject_media() override;

 private:
  Machine(const Kvm& kvm, const MachinePlan& plan, Console& console, Voices voices)
      : kvm_(kvm), plan_(plan), console_(console), voices_(std::move(voices)) {}
  Result<void> create_parts();
  Result<void> attach_disks();
  Result<Ending> run_once();
  Result<Ending> run(Partition& partition, Devices& devices);
  void begin_loading();
  void take_memory_ahead();
  Result<Entry> load_kernel_file();
  Result<Entry> load_boot_loader(Devices& devices);
  void end(Ending ending);
  void switch_off(Devices& devices, Partition& partition);
  void set_current(Partition* partition);
  bool starts_again(const Ending& ending);
  // Null while the guest is switched on or off. REQUIRES: operation_ is held.
  Partition* current();
  Result<Partition*> running();
  Result<void> check_can_answer();
  std::chrono::duration<double> uptime();  // since it was last switched on
  Result<unsigned> number_of(const DiskName& name) const;
  Result<std::vector<Snapshot>> snapshot_frozen(std::vector<unsigned> numbers);
  std::optional<services::TimeReading> read_time();
  void heed(const Crash& crash);
  template <class T>
  Result<T> with_reason(Result<T> result) const;
  std::vector<ExitCounts> exits_so_far();  // by processor, of all power-ons

  const Kvm& kvm_;
  MachinePlan plan_;
  Console& console_;
  Voices voices_;
  std::unique_ptr<GuestRam> ram_;
  std::unique_ptr<Synic> synic_;
  std::unique_ptr<Registers> registers_;
  std::unique_ptr<Storage> storage_;
  bool has_run_ = false;
  std::atomic<bool> has_crash_notice_ = false;
  // The next power-on's kernel on its way; waits for it when it goes.
  std::shared_future<Result<Entry>> loading_;
  std::unique_ptr<MemoryAhead> ahead_;       // for a boot loader
  std::unique_ptr<GuestServices> services_;  // on the storage's bus
  std::unique_ptr<Bios> bios_;               // of the power-on; null where a kernel is loaded

  // A command from outside, or switching off: one at a time. Taken before mutex_.
  std::mutex operation_;
  std::mutex mutex_;
  Partition* current_ = nullptr;  // the one that runs
  std::chrono::steady_clock::time_point powered_on_ = std::chrono::steady_clock::now();
  bool is_stopped_ = false;
  bool is_reset_from_outside_ = false;
  std::vector<ExitCounts> exits_;  // of the partitions before, by processor
};

}  // namespace vhdkit::hypervisor
