#include "hypervisor/partition/partition.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <time.h>
#include <x86intrin.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "hypervisor/boot/platform.h"
#include "hypervisor/hyperv/cpuid.h"
#include "hypervisor/partition/firmware_call.h"
#include "hypervisor/partition/hypervisor_call.h"
#include "hypervisor/sandbox/sandbox.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint32_t tsc_register = 0x10;
constexpr uint64_t apic_hz = 1'000'000'000;  // of the timer in KVM's local APICs
constexpr int no_event = -1;
constexpr int64_t nanoseconds_per_second = 1'000'000'000;
constexpr int64_t shortest_sleep = nanoseconds_per_second / 10;

int64_t nanoseconds_of(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return now.tv_sec * nanoseconds_per_second + now.tv_nsec;
}

// Others may run for long between two looks at clocks: of several tries the quickest counts.
constexpr int tries = 5;

// This machine, since it was switched on.
int64_t nanoseconds_slept() {
  int64_t slept = 0;
  int64_t quickest = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < tries; ++i) {
    const int64_t before = nanoseconds_of(CLOCK_MONOTONIC);
    const int64_t since_start = nanoseconds_of(CLOCK_BOOTTIME);
    const int64_t taken = nanoseconds_of(CLOCK_MONOTONIC) - before;
    if (taken >= quickest) continue;
    quickest = taken;
    slept = since_start - before;
  }
  return slept;
}

uint32_t value_of(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data(), bytes.size());
  return value;
}

// What loaders do all the time. A kernel may write to its console first of all, too, but it lets
// interrupts in only after it has asked for a register or for the time.
bool is_loaders_own(const kvm_run& exit) {
  if (exit.exit_reason != KVM_EXIT_IO) return false;
  const uint16_t port = exit.io.port;
  return port == bios_port ||
         (port >= platform::com1_port && port < platform::com1_port + platform::com1_port_count);
}

}  // namespace

Partition::Partition(const Parts& parts, unsigned processor_count) : parts_(parts) {
  for (unsigned i = 0; i < processor_count; ++i) {
    vps_.push_back(std::make_unique<Vp>());
    for (auto& event : vps_.back()->events) event = no_event;
  }
}

Result<std::unique_ptr<Partition>> Partition::create(const Parts& parts, unsigned processor_count) {
  prepare_kicks();
  std::unique_ptr<Partition> partition(new Partition(parts, processor_count));
  TRY_LET(partition->machine_, VirtualMachine::create(parts.kvm, parts.ram));
  TRY(partition->create_processors());
  parts.synic.reset(partition.get());
  TRY(partition->start_clock());
  return partition;
}

Partition::~Partition() {
  parts_.synic.reset(nullptr);
  for (const auto& vp : vps_) assert(!vp->thread.joinable());
}

Result<void> Partition::create_processors() {
  for (unsigned i = 0; i < vps_.size(); ++i) {
    TRY_LET(vps_[i]->processor, machine_->create_processor(i));
  }
  return {};
}

Result<void> Partition::start_clock() {
  TRY_LET(const bool tsc_is_sound, machine_->start_clock());
  TRY_LET(const auto supported, parts_.kvm.supported_cpuid());
  const Topology topology{.processor_count = unsigned(vps_.size()),
                          .tsc_is_sound = tsc_is_sound,
                          .has_eoi_assist = parts_.kvm.has_eoi_assist()};
  for (const auto& vp : vps_) {
    TRY(vp->processor->set_cpuid(guest_cpuid(supported, vp->processor->index(), topology)));
  }
  Registers::Clock clock{.scale = std::nullopt,
                         .now = [this](uint32_t) { return machine_->clock_ticks(); },
                         .tsc_hz = 0,
                         .apic_hz = apic_hz};
  TRY_LET(clock.tsc_hz, vps_[0]->processor->tsc_hz());
  if (tsc_is_sound) {
    TRY_LET(const uint64_t tsc, measure_tsc());
    const TscScale scale(clock.tsc_hz, tsc);
    tsc_scale_ = scale;
    clock.scale = scale;
    clock.now = [this, scale](uint32_t vp) {
      const auto now = vps_[vp]->processor->read_msr(tsc_register);
      assert(now);
      return scale.ticks(*now);
    };
  }
  parts_.registers.reset(std::move(clock));
  return {};
}

// How far the first processor's counter is ahead of ours. Returns what it shows.
Result<uint64_t> Partition::measure_tsc() {
  const int64_t slept = nanoseconds_slept();
  uint64_t quickest = std::numeric_limits<uint64_t>::max();
  uint64_t tsc = 0;
  for (int i = 0; i < tries; ++i) {
    const uint64_t before = __rdtsc();
    TRY_LET(tsc, vps_[0]->processor->read_msr(tsc_register));
    const uint64_t taken = __rdtsc() - before;
    if (taken >= quickest) continue;
    quickest = taken;
    tsc_ahead_of_ours_ = tsc - (before + taken / 2);
  }
  slept_when_measured_ = slept;
  return tsc;
}

Result<void> Partition::start(const Entry& entry, const Ports& ports, Firmware* firmware) {
  ports_ = &ports;
  firmware_ = firmware;
  firmware_is_in_charge_ = firmware != nullptr;
  // What the tables say is not there says nothing.
  TRY(firmware != nullptr ? machine_->add_timer() : machine_->mask_8259s());
  TRY(vps_[0]->processor->enter_at(entry));
  std::unique_lock lock(mutex_);
  for (const auto& vp : vps_)
    vp->thread = std::thread([this, &vp = *vp] {
      enter(ThreadKind::processor);
      note_entry();
      run(vp);
    });
  has_changed_.wait(lock, [this] { return entered_count_ == vps_.size(); });
  return {};
}

void Partition::note_entry() {
  const std::lock_guard lock(mutex_);
  ++entered_count_;
  has_changed_.notify_all();
}

void Partition::end(Ending ending) {
  const std::lock_guard lock(mutex_);
  if (ending_) return;
  ending_ = std::move(ending);
  is_ending_ = true;
  kick_all();
  has_changed_.notify_all();
}

void Partition::kick_all() {
  for (const auto& vp : vps_)
    if (vp->thread.joinable()) vp->processor->kick(vp->thread.native_handle());
}

Ending Partition::wait() {
  std::unique_lock lock(mutex_);
  has_changed_.wait(lock, [this] { return ending_.has_value(); });
  return *ending_;
}

void Partition::join() {
  for (const auto& vp : vps_)
    if (vp->thread.joinable()) vp->thread.join();
}

// --- pausing ---

Result<void> Partition::pause(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (ending_) return fail(Errc::busy, "the guest is being switched off");
  if (is_paused_) return {};
  if (!vps_[0]->thread.joinable()) return fail(Errc::busy, "the guest is being switched on");
  is_paused_ = true;
  kick_all();
  const bool has_come_to_rest = has_changed_.wait_for(
      lock, patience, [this] { return ending_ || standing_count_ == vps_.size(); });
  if (has_come_to_rest && !ending_) {
    if (const auto instant = now()) {
      paused_at_ = *instant;
      return {};
    }
  }
  is_paused_ = false;
  has_changed_.notify_all();
  if (ending_) return fail(Errc::busy, "the guest is being switched off");
  return fail(Errc::busy,
              "a processor does not stop: somebody holds it up, who does not read its "
              "console perhaps");
}

Result<void> Partition::resume() {
  const std::lock_guard lock(mutex_);
  if (!is_paused_ || ending_) return {};
  TRY(go_back_to(paused_at_));
  is_paused_ = false;
  has_changed_.notify_all();
  return {};
}

void Partition::stand_still() {
  std::unique_lock lock(mutex_);
  ++standing_count_;
  has_changed_.notify_all();
  has_changed_.wait(lock, [this] { return !is_paused_ || is_ending_; });
  --standing_count_;
}

Result<Partition::Instant> Partition::now() const {
  Instant instant{.tsc = 0, .clock_ticks = machine_->clock_ticks()};
  TRY_LET(instant.tsc, vps_[0]->processor->read_msr(tsc_register));
  return instant;
}

// Where counters cannot be set back, their guest sees that time has passed: as on real machines
// that sleep.
Result<void> Partition::go_back_to(const Instant& instant) {
  TRY_LET(const Instant present, now());
  const uint64_t passed = present.tsc - instant.tsc;
  for (const auto& vp : vps_) {
    const auto set = vp->processor->set_tsc_back(passed);
    if (!set && set.error().code == Errc::unsupported) return {};
    TRY(set);
  }
  TRY(measure_tsc());
  return machine_->set_clock(instant.clock_ticks);
}

std::optional<uint64_t> Partition::reference_time() {
  if (!tsc_scale_) return machine_->clock_ticks();
  // A processor that runs cannot be asked; its counter and ours go at the same speed, but for what
  // KVM makes up for where ours has begun anew.
  if (std::abs(nanoseconds_slept() - slept_when_measured_) < shortest_sleep)
    return tsc_scale_->ticks(__rdtsc() + tsc_ahead_of_ours_);
  const std::lock_guard lock(mutex_);
  is_to_be_measured_ = true;
  if (!ending_ && vps_[0]->thread.joinable())
    vps_[0]->processor->kick(vps_[0]->thread.native_handle());
  return std::nullopt;
}

std::vector<ExitCounts> Partition::exits() const {
  std::vector<ExitCounts> counts;
  for (const auto& vp : vps_) counts.push_back(vp->exits.counts());
  return counts;
}

// --- processors ---

void Partition::run(Vp& vp) {
  while (!is_ending_) {
    if (is_paused_) {
      stand_still();
      continue;
    }
    if (vp.processor->index() == 0 && is_to_be_measured_.exchange(false)) (void)measure_tsc();
    const auto ran = vp.processor->run();
    if (!ran) {
      end({.end = End::failure, .message = ran.error().message});
    } else if (*ran) {
      handle_exit(vp);
    } else {
      vp.exits.count(ExitCause::kicked);
    }
  }
}

void Partition::handle_exit(Vp& vp) {
  Processor& processor = *vp.processor;
  kvm_run& exit = processor.exit();
  if (processor.index() == 0 && firmware_is_in_charge_ && !is_loaders_own(exit))
    look_for_kernel(processor);
  switch (exit.exit_reason) {
    case KVM_EXIT_IO: {
      const bool is_call = exit.io.port == hypercall_port;
      const bool is_signal = exit.io.port == signal_port;
      vp.exits.count(is_call     ? ExitCause::hypercall
                     : is_signal ? ExitCause::signal
                                 : ExitCause::port);
      return handle_port(processor);
    }
    case KVM_EXIT_MMIO:
      // Nothing is there: as on a bus that nobody drives.
      vp.exits.count(ExitCause::memory);
      if (exit.mmio.is_write == 0) std::memset(exit.mmio.data, 0xff, sizeof exit.mmio.data);
      return;
    case KVM_EXIT_X86_RDMSR:
      vp.exits.count(ExitCause::register_read);
      return handle_register(processor);
    case KVM_EXIT_X86_WRMSR:
      vp.exits.count(ExitCause::register_write);
      return handle_register(processor);
    case KVM_EXIT_SHUTDOWN:
      return end({.end = End::triple_fault, .message = failure_of(processor)});
    case KVM_EXIT_INTR:
      return vp.exits.count(ExitCause::kicked);
    default:
      vp.exits.count(ExitCause::other);
      return end({.end = End::failure, .message = failure_of(processor)});
  }
}

void Partition::handle_port(Processor& processor) {
  const auto& access = processor.exit().io;
  const bool is_write = access.direction == KVM_EXIT_IO_OUT;
  if (access.port == hypercall_port && is_write && access.size == 1 && access.count == 1) {
    if (const auto called = call_hypervisor(processor); !called)
      end({.end = End::failure, .message = called.error().message});
    return;
  }
  if (access.port == bios_port && is_write && firmware_ != nullptr && access.size == 1) {
    if (const auto called = call_firmware(processor); !called)
      end({.end = End::failure, .message = called.error().message});
    return;
  }
  auto data = processor.port_data();
  for (; !data.empty(); data = data.subspan(access.size)) {
    const auto item = data.first(access.size);
    if (!is_write) {
      const uint32_t value = ports_->read(access.port, access.size);
      std::memcpy(item.data(), &value, item.size());
    } else if (access.port == signal_port && access.size == sizeof(uint32_t)) {
      // The guest's code does not wait for an answer.
      (void)parts_.connections.signal_event(value_of(item));
    } else {
      ports_->write(access.port, access.size, value_of(item));
    }
  }
}

Result<void> Partition::call_hypervisor(Processor& processor) {
  TRY_LET(kvm_regs registers, processor.registers());
  TRY_LET(const kvm_sregs special, processor.special_registers());
  const Hypercall call = take_hypercall(registers, special);
  give_result(execute(call, parts_.ram, parts_.connections), registers, special);
  return processor.set_registers(registers);
}

Result<void> Partition::call_firmware(Processor& processor) {
  TRY_LET(kvm_sregs special, processor.special_registers());
  if (!is_in_real_mode(special)) return {};
  TRY_LET(kvm_regs registers, processor.registers());
  auto call = take_call(parts_.ram, registers, special);
  // What runs there has lost its stack, as on a PC: nobody would hear of it.
  if (!call) return {};
  const BiosAnswer answer = firmware_->answer(*call);
  if (answer == BiosAnswer::power_off) end({.end = End::power_off, .message = {}});
  if (answer == BiosAnswer::no_boot) end({.end = End::no_boot, .message = {}});
  const bool comes_again = answer != BiosAnswer::done;
  TRY_LET(const bool has_other_segments,
          give_answer(parts_.ram, *call, comes_again, registers, special));
  if (has_other_segments) {
    TRY(processor.set_special_registers(special));
  }
  return processor.set_registers(registers);
}

// The guest's kernel may not know that there was firmware, whose timer would then bring it
// interrupts that it has no handler for: Linux finds a machine without 8259s.
void Partition::look_for_kernel(Processor& processor) {
  const auto special = processor.special_registers();
  if (!special || !uses_pages(*special)) return;
  firmware_is_in_charge_ = false;
  firmware_->hand_over();
  if (const auto retired = machine_->retire_timer(firmware_timer_vector); !retired)
    end({.end = End::failure, .message = retired.error().message});
}

void Partition::handle_register(Processor& processor) {
  auto& access = processor.exit().msr;
  if (processor.exit().exit_reason == KVM_EXIT_X86_WRMSR) {
    access.error = parts_.registers.write(processor.index(), access.index, access.data) ? 0 : 1;
    return;
  }
  const auto value = parts_.registers.read(processor.index(), access.index);
  access.error = value ? 0 : 1;
  access.data = value.value_or(0);
}

std::string Partition::failure_of(Processor& processor) const {
  const kvm_run& exit = processor.exit();
  std::string what = fmt::format("processor {}: ", processor.index());
  if (exit.exit_reason == KVM_EXIT_INTERNAL_ERROR)
    what += fmt::format("KVM gave up (internal error {})", exit.internal.suberror);
  else if (exit.exit_reason == KVM_EXIT_FAIL_ENTRY)
    what += fmt::format("the hardware refused to run it (reason {:#x})",
                        exit.fail_entry.hardware_entry_failure_reason);
  else if (exit.exit_reason == KVM_EXIT_SHUTDOWN)
    what += "triple fault";
  else
    what += fmt::format("KVM stopped for reason {}", exit.exit_reason);
  if (const auto registers = processor.registers())
    what += fmt::format(" at instruction {:#x}, stack {:#x}", registers->rip, registers->rsp);
  return what;
}

// --- wires ---

void Partition::set_vector(uint32_t vp, uint8_t sint, uint8_t vector) {
  const auto event = machine_->message_event(vp * Synic::sint_count + sint, vp, vector);
  if (event) {
    vps_[vp]->events[sint] = *event;
  } else {
    end({.end = End::failure, .message = event.error().message});
  }
}

void Partition::set_auto_eoi(uint32_t vp, uint8_t sint, uint8_t vector, bool ends_by_itself) {
  const auto set = vps_[vp]->processor->set_auto_eoi(sint, vector, ends_by_itself);
  if (set) return;
  end({.end = End::failure,
       .message = "the guest leaves it to its hypervisor to end interrupts (Auto-EOI), as Linux "
                  "before 4.12 does, and this KVM cannot: " +
                  set.error().message});
}

void Partition::interrupt(uint32_t vp, uint8_t sint) {
  const int event = vps_[vp]->events[sint];
  const uint64_t one = 1;
  if (event != no_event) (void)!write(event, &one, sizeof one);
}

void Partition::connect_signal(uint32_t connection_id, int event) {
  // Where the kernel cannot, signals come to us and are passed on.
  (void)machine_->connect_signal(signal_port, connection_id, event);
}

void Partition::disconnect_signal(uint32_t connection_id, int event) {
  (void)machine_->disconnect_signal(signal_port, connection_id, event);
}

}  // namespace vhdkit::hypervisor
