#include "hypervisor/runner/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hypervisor/boot/loader.h"
#include "hypervisor/boot/platform.h"
#include "hypervisor/devices/power.h"
#include "hypervisor/devices/rtc.h"
#include "hypervisor/devices/uart.h"
#include "hypervisor/runner/file_content.h"

namespace vhdkit::hypervisor {
namespace {

// Hyper-V gives a controller one channel for each processor, and not more than these.
constexpr unsigned max_channels = 8;

// The pin of the I/O APIC that the serial port is connected to.
class EventLine final : public InterruptLine {
 public:
  explicit EventLine(int event) : event_(event) {}
  void edge() override {
    const uint64_t one = 1;
    (void)!write(event_, &one, sizeof one);
  }

 private:
  int event_;
};

class Power final : public PowerControl {
 public:
  explicit Power(Partition& partition) : partition_(partition) {}
  void power_off() override { partition_.end({.end = End::power_off, .message = {}}); }
  void reset() override { partition_.end({.end = End::reset, .message = {}}); }

 private:
  Partition& partition_;
};

// What a partition has besides processors, memory and VMBus. Connects the console while it lives.
class Devices {
 public:
  Devices(Partition& partition, Console& console, int com1_event)
      : console_(console),
        line_(com1_event),
        uart_(console, line_),
        power_(partition),
        power_ports_(power_) {
    ports_.add(platform::com1_port, platform::com1_port_count, uart_);
    ports_.add(platform::rtc_index_port, 2, rtc_);
    power_ports_.add_to(ports_);
    console_.connect(&uart_);
  }
  // Nobody types any more, and no processor waits for a reader. Before it goes.
  void disconnect() { console_.connect(nullptr); }

  const Ports& ports() const { return ports_; }

 private:
  Console& console_;
  EventLine line_;
  Uart uart_;
  Rtc rtc_;
  Power power_;
  PowerPorts power_ports_;
  Ports ports_;
};

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const Kvm& kvm, const MachinePlan& plan,
                                                 Console& console, Log log) {
  if (plan.processor_count > kvm.max_processors())
    return fail(Errc::invalid_argument, fmt::format("this KVM runs {} processors at most, not {}",
                                                    kvm.max_processors(), plan.processor_count));
  std::unique_ptr<Machine> machine(new Machine(kvm, plan, console, std::move(log)));
  TRY(machine->create_parts());
  TRY(machine->attach_disks());
  return machine;
}

Result<void> Machine::create_parts() {
  const unsigned vp_count = plan_.processor_count;
  TRY_LET(ram_, GuestRam::create(plan_.memory_bytes));
  synic_ = std::make_unique<Synic>(*ram_, vp_count, [this] { storage_->slot_is_free(); });
  registers_ = std::make_unique<Registers>(
      *ram_, *synic_, vp_count,
      Registers::Events{
          .reset = [this] { end({.end = End::reset, .message = {}}); },
          .crash =
              [this](const Crash& crash) { end({.end = End::crash, .message = crash.message}); }});
  const unsigned channels = std::min(vp_count, max_channels);
  // An image belongs to one worker: more workers than images would only hand requests over.
  const auto images = unsigned(std::max<size_t>(plan_.disks.size(), 1));
  TRY_LET(storage_, Storage::create(*ram_, *synic_,
                                    {.controller_count = plan_.controller_count,
                                     .sub_channel_count = channels - 1,
                                     .worker_count = std::min(channels, images),
                                     .log = log_}));
  return {};
}

Result<void> Machine::attach_disks() {
  for (const DiskPlan& disk : plan_.disks) {
    TRY_LET(const auto warnings, storage_->attach(disk));
    for (const std::string& warning : warnings) log_(warning);
  }
  return {};
}

Result<Ending> Machine::run() {
  for (;;) {
    TRY_LET(Ending ending, run_once());
    if (ending.end != End::reset || !plan_.restarts) return ending;
    TRY(ram_->clear());
  }
}

Result<Ending> Machine::run_once() {
  TRY_LET(const auto partition, Partition::create({.kvm = kvm_,
                                                   .ram = *ram_,
                                                   .synic = *synic_,
                                                   .registers = *registers_,
                                                   .connections = *storage_},
                                                  plan_.processor_count));
  TRY_LET(const int com1_event, partition->pin_event(platform::com1_irq));
  Devices devices(*partition, console_, com1_event);
  set_current(partition.get());
  auto ending = run(*partition, devices.ports());
  devices.disconnect();
  partition->join();
  set_current(nullptr);
  // Channels are closed while what their signals are connected to is still there.
  storage_->reset();
  return ending;
}

Result<Ending> Machine::run(Partition& partition, const Ports& ports) {
  TRY_LET(const Entry entry, load());
  TRY(partition.start(entry, ports));
  return partition.wait();
}

Result<Entry> Machine::load() {
  TRY_LET(const auto kernel, read_file(plan_.kernel));
  std::vector<std::byte> initrd;
  if (!plan_.initrd.empty()) {
    TRY_LET(initrd, read_file(plan_.initrd));
  }
  return with_context(load_kernel(*ram_, {.kernel = kernel,
                                          .initrd = initrd,
                                          .command_line = plan_.command_line,
                                          .vp_count = plan_.processor_count}),
                      plan_.kernel);
}

void Machine::end(Ending ending) {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr) current_->end(std::move(ending));
}

void Machine::stop() {
  const std::lock_guard lock(mutex_);
  is_stopped_ = true;
  if (current_ != nullptr) current_->end({.end = End::stopped, .message = {}});
}

void Machine::set_current(Partition* partition) {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr) {
    const ExitCounts counts = current_->exits();
    for (size_t i = 0; i < counts.size(); ++i) exits_[i] += counts[i];
  }
  current_ = partition;
  if (partition != nullptr && is_stopped_) partition->end({.end = End::stopped, .message = {}});
}

std::string Machine::report() {
  nlohmann::ordered_json report;
  {
    const std::lock_guard lock(mutex_);
    ExitCounts counts = current_ == nullptr ? ExitCounts{} : current_->exits();
    for (size_t i = 0; i < counts.size(); ++i)
      report["exits"][std::string(exit_cause_names[i])] = counts[i] + exits_[i];
  }
  report["controllers"] = nlohmann::ordered_json::parse(storage_->report());
  return report.dump(2);
}

}  // namespace vhdkit::hypervisor
