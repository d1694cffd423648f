#include "hypervisor/kvm/processor.h"

#include <asm/processor-flags.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <cerrno>

#include "hypervisor/kvm/counted_list.h"

namespace vhdkit::hypervisor {
namespace {

constexpr uint64_t efer_lme = uint64_t{1} << 8;
constexpr uint64_t efer_lma = uint64_t{1} << 10;
constexpr uint16_t code_selector = 0x10;
constexpr uint16_t data_selector = 0x18;

// TLFS, "SINT Registers".
constexpr uint32_t sint0_msr = 0x4000'0090;
constexpr uint64_t sint_is_masked = 1 << 16;
constexpr uint64_t sint_has_auto_eoi = 1 << 17;

int kick_signal() { return SIGRTMIN + 1; }

kvm_segment flat_segment(uint16_t selector, bool is_code, bool is_long) {
  return {.base = 0,
          .limit = 0xffff'ffff,
          .selector = selector,
          .type = uint8_t(is_code ? 0xb : 0x3),  // accessed; executable or writable
          .present = 1,
          .dpl = 0,
          .db = uint8_t(is_long ? 0 : 1),
          .s = 1,
          .l = uint8_t(is_long ? 1 : 0),
          .g = 1,
          .avl = 0,
          .unusable = 0,
          .padding = 0};
}

kvm_segment busy_tss() {
  return {.base = 0,
          .limit = 0x67,
          .selector = 0x20,
          .type = 0xb,
          .present = 1,
          .dpl = 0,
          .db = 0,
          .s = 0,
          .l = 0,
          .g = 0,
          .avl = 0,
          .unusable = 0,
          .padding = 0};
}

// As after a reset, but for where it begins.
void enter_real_mode(kvm_sregs& registers, const Entry& entry) {
  constexpr uint16_t last_segment = 0xf000;
  const auto segment = uint16_t(entry.instruction / 16 & last_segment);
  registers.cs.selector = segment;
  registers.cs.base = uint64_t{segment} * 16;
  registers.cr0 = X86_CR0_ET;
}

void enter_mode(kvm_sregs& registers, const Entry& entry) {
  if (entry.mode == Entry::Mode::real_mode) return enter_real_mode(registers, entry);
  const bool is_long = entry.mode == Entry::Mode::long_mode;
  registers.gdt.base = entry.gdt;
  registers.gdt.limit = uint16_t(entry.gdt_bytes - 1);
  registers.cs = flat_segment(code_selector, true, is_long);
  const kvm_segment data = flat_segment(data_selector, false, false);
  registers.ds = registers.es = registers.fs = registers.gs = registers.ss = data;
  registers.tr = busy_tss();
  registers.cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
  if (!is_long) return;
  registers.cr3 = entry.page_table;
  registers.cr4 |= X86_CR4_PAE;
  registers.cr0 |= X86_CR0_PG;
  registers.efer |= efer_lme | efer_lma;
}

}  // namespace

Result<std::unique_ptr<Processor>> Processor::create(const Kvm& kvm, int machine, unsigned index) {
  TRY_LET(const int number, control(machine, KVM_CREATE_VCPU, "KVM_CREATE_VCPU", index));
  std::unique_ptr<Processor> processor(new Processor(Descriptor(number), index));
  void* const run = mmap(nullptr, kvm.run_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, number, 0);
  if (run == MAP_FAILED) return fail_errno(errno, "the memory that KVM shares with a processor");
  processor->run_ = static_cast<kvm_run*>(run);
  processor->run_bytes_ = kvm.run_bytes();
  return processor;
}

Processor::~Processor() {
  if (run_ != nullptr) munmap(run_, run_bytes_);
}

Result<void> Processor::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
  using List = CountedList<kvm_cpuid_entry2>;
  List list(entries);
  TRY(control(descriptor_.number(), List::request(KVM_SET_CPUID2), "KVM_SET_CPUID2", list.data()));
  return {};
}

Result<void> Processor::enter_at(const Entry& entry) {
  TRY_LET(kvm_sregs special, special_registers());
  enter_mode(special, entry);
  TRY(set_special_registers(special));
  const bool is_real = entry.mode == Entry::Mode::real_mode;
  kvm_regs registers{};
  registers.rip = entry.instruction - (is_real ? special.cs.base : 0);
  registers.rsp = entry.stack;
  registers.rflags = 2;  // the bit that is always set
  if (!is_real)
    (entry.mode == Entry::Mode::long_mode ? registers.rsi : registers.rbx) = entry.boot_data;
  return set_registers(registers);
}

Result<kvm_regs> Processor::registers() const {
  kvm_regs registers;
  TRY(control(descriptor_.number(), KVM_GET_REGS, "KVM_GET_REGS", &registers));
  return registers;
}

Result<void> Processor::set_registers(const kvm_regs& registers) {
  kvm_regs copy = registers;
  TRY(control(descriptor_.number(), KVM_SET_REGS, "KVM_SET_REGS", &copy));
  return {};
}

Result<kvm_sregs> Processor::special_registers() const {
  kvm_sregs registers;
  TRY(control(descriptor_.number(), KVM_GET_SREGS, "KVM_GET_SREGS", &registers));
  return registers;
}

Result<void> Processor::set_special_registers(const kvm_sregs& registers) {
  kvm_sregs copy = registers;
  TRY(control(descriptor_.number(), KVM_SET_SREGS, "KVM_SET_SREGS", &copy));
  return {};
}

Result<uint64_t> Processor::tsc_hz() const {
  TRY_LET(const int khz, control(descriptor_.number(), KVM_GET_TSC_KHZ, "KVM_GET_TSC_KHZ"));
  return uint64_t(khz) * 1000;
}

Result<uint64_t> Processor::read_msr(uint32_t index) const {
  using List = CountedList<kvm_msr_entry>;
  List list(1);
  list.items()[0].index = index;
  TRY_LET(const int count,
          control(descriptor_.number(), List::request(KVM_GET_MSRS), "KVM_GET_MSRS", list.data()));
  if (count != 1)
    return fail(Errc::unsupported,
                "KVM cannot tell a processor's register " + std::to_string(index));
  return list.items()[0].data;
}

Result<void> Processor::write_msr(uint32_t index, uint64_t value) {
  using List = CountedList<kvm_msr_entry>;
  List list(1);
  list.items()[0].index = index;
  list.items()[0].data = value;
  TRY_LET(const int count,
          control(descriptor_.number(), List::request(KVM_SET_MSRS), "KVM_SET_MSRS", list.data()));
  if (count == 1) return {};
  return fail(Errc::unsupported,
              "KVM does not take a processor's register " + std::to_string(index));
}

Result<void> Processor::set_auto_eoi(uint8_t sint, uint8_t vector, bool ends_by_itself) {
  if (!has_synic_) {
    // The one that leaves the guest's pages alone.
    kvm_enable_cap synic{};
    synic.cap = KVM_CAP_HYPERV_SYNIC2;
    TRY(control(descriptor_.number(), KVM_ENABLE_CAP, "KVM_CAP_HYPERV_SYNIC2", &synic));
    has_synic_ = true;
  }
  return write_msr(sint0_msr + sint,
                   vector | (ends_by_itself ? sint_has_auto_eoi : sint_is_masked));
}

Result<void> Processor::set_tsc_back(uint64_t ticks) const {
  uint64_t offset = 0;
  kvm_device_attr attribute{};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uintptr_t>(&offset);
  const int number = descriptor_.number();
  if (!control(number, KVM_HAS_DEVICE_ATTR, "KVM_HAS_DEVICE_ATTR", &attribute))
    return fail(Errc::unsupported, "this KVM cannot set a processor's time stamp counter back");
  TRY(control(number, KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR", &attribute));
  offset -= ticks;
  TRY(control(number, KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR", &attribute));
  return {};
}

Result<bool> Processor::run() {
  const auto ran = control(descriptor_.number(), KVM_RUN, "KVM_RUN");
  if (ran) return true;
  if (ran.error().os_error != EINTR && ran.error().os_error != EAGAIN)
    return std::unexpected(ran.error());
  std::atomic_ref<uint8_t>(run_->immediate_exit).store(0);
  return false;
}

std::span<std::byte> Processor::port_data() {
  return {reinterpret_cast<std::byte*>(run_) + run_->io.data_offset,
          size_t{run_->io.size} * run_->io.count};
}

void Processor::kick(pthread_t thread) {
  std::atomic_ref<uint8_t>(run_->immediate_exit).store(1);
  pthread_kill(thread, kick_signal());
}

void prepare_kicks() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  sigaction(kick_signal(), &action, nullptr);
}

}  // namespace vhdkit::hypervisor
