// A partition from power-on to its end: processors on threads of their own, and what they need.
#pragma once

#include <chrono>
#include <condition_variable>
#include <thread>

#include "hypervisor/bios/call.h"
#include "hypervisor/devices/ports.h"
#include "hypervisor/hyperv/hypercalls.h"
#include "hypervisor/hyperv/registers.h"
#include "hypervisor/kvm/virtual_machine.h"
#include "hypervisor/partition/exit_counters.h"

namespace vhdkit::hypervisor {

// Why a partition runs no more.
enum class End : uint8_t {
  power_off,     // the guest switched itself off
  no_loader,     // the first disk has nothing that could be started
  no_boot,       // its boot loader found nothing to boot, and said so
  reset,         // the guest asked for a restart
  crash,         // the guest's kernel gave up, and said so
  triple_fault,  // a processor met an exception that it could not begin to handle
  stopped,       // somebody outside wanted it
  failure,       // KVM could not go on
};
struct Ending {
  End end = End::stopped;
  std::string message;  // of no_loader: why; of crash: the end of the guest's log; of failure: what
                        // KVM said
};

// For one power-on; a restart takes a new one. Thread-safe, but for what says otherwise.
class Partition final : private Wires {
 public:
  // All of them outlive it. Synic and registers are reset, and are this partition's until its end.
  struct Parts {
    const Kvm& kvm;
    GuestRam& ram;
    Synic& synic;
    Registers& registers;
    Connections& connections;
  };
  static Result<std::unique_ptr<Partition>> create(const Parts& parts, unsigned processor_count);
  // REQUIRES: it was joined, or never started; nobody has a signal connected.
  ~Partition() override;

  // A pin of the I/O APIC: who writes to the eventfd raises an edge.
  Result<int> pin_event(uint32_t pin) { return machine_->pin_event(pin); }

  // Begins to run the loaded kernel, or the firmware's first instruction; devices and firmware
  // outlive the partition. firmware: null where there is none. Its threads are all there when it
  // returns. Once.
  Result<void> start(const Entry& entry, const Ports& ports, Firmware* firmware);
  // The first one to say so decides; the processors stop soon, paused or not.
  void end(Ending ending);

  // Returns when no processor runs: each stands between two instructions, what it asked of us done.
  // The counters of time stop, as far as KVM can set them back; timers that run out meanwhile fire
  // when it goes on. Once more: nothing. Errors: busy, with nothing changed: it has not begun to
  // run or has ended, or a processor did not stop within the patience.
  Result<void> pause(std::chrono::milliseconds patience);
  // Unless it is paused: nothing. Errors: those of KVM; then it stays as it is.
  Result<void> resume();
  bool is_paused() const { return is_paused_; }
  // Waits for the end. Processors may be on their way yet: join() waits for them.
  Ending wait();
  void join();

  // What the guest's reference clock says, in 100 ns. Nothing: this machine has slept, and how the
  // guest's counter came out of it is found out for the next time.
  std::optional<uint64_t> reference_time();

  // Exits so far, of each processor.
  std::vector<ExitCounts> exits() const;

 private:
  struct Vp {
    std::unique_ptr<Processor> processor;
    std::thread thread;
    ExitCounters exits;
    std::array<std::atomic<int>, Synic::sint_count> events;  // of its synthetic interrupts
  };

  // What the counters of time show.
  struct Instant {
    uint64_t tsc;          // the first processor's
    uint64_t clock_ticks;  // the machine's
  };

  Partition(const Parts& parts, unsigned processor_count);
  Result<void> create_processors();
  Result<void> start_clock();
  Result<uint64_t> measure_tsc();

  void kick_all();
  void stand_still();
  Result<Instant> now() const;
  Result<void> go_back_to(const Instant& instant);

  void note_entry();
  void run(Vp& vp);
  void handle_exit(Vp& vp);
  void handle_port(Processor& processor);
  Result<void> call_firmware(Processor& processor);
  void look_for_kernel(Processor& processor);
  Result<void> call_hypervisor(Processor& processor);
  void handle_register(Processor& processor);
  std::string failure_of(Processor& processor) const;

  void set_vector(uint32_t vp, uint8_t sint, uint8_t vector) override;
  void set_auto_eoi(uint32_t vp, uint8_t sint, uint8_t vector, bool ends_by_itself) override;
  void interrupt(uint32_t vp, uint8_t sint) override;
  void connect_signal(uint32_t connection_id, int event) override;
  void disconnect_signal(uint32_t connection_id, int event) override;

  Parts parts_;
  std::unique_ptr<VirtualMachine> machine_;
  std::vector<std::unique_ptr<Vp>> vps_;
  const Ports* ports_ = nullptr;
  std::optional<TscScale> tsc_scale_;             // nothing: the counters are not sound
  std::atomic<uint64_t> tsc_ahead_of_ours_ = 0;   // the first processor's
  std::atomic<int64_t> slept_when_measured_ = 0;  // this machine until then, in nanoseconds
  std::atomic<bool> is_to_be_measured_ = false;
  Firmware* firmware_ = nullptr;
  bool firmware_is_in_charge_ = false;  // of the first processor's thread, once it runs

  std::atomic<bool> is_ending_ = false;
  std::atomic<bool> is_paused_ = false;
  std::mutex mutex_;
  std::condition_variable has_changed_;
  std::optional<Ending> ending_;
  size_t entered_count_ = 0;   // processors whose threads are there
  size_t standing_count_ = 0;  // processors that the pause holds
  Instant paused_at_{};
};

}  // namespace vhdkit::hypervisor
