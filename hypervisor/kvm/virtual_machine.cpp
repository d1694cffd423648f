#include "hypervisor/kvm/virtual_machine.h"

#include <sys/eventfd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <vector>

#include "hypervisor/kvm/counted_list.h"

namespace vhdkit::hypervisor {
namespace {

// Three pages that processors without real mode in hardware need, in the gap behind the I/O APIC
// and below the BIOS, where no RAM is.
constexpr uint64_t tss_address = 0xfffb'd000;
constexpr uint64_t identity_map_address = 0xfffb'c000;

constexpr uint32_t io_apic_pins = 24;
constexpr uint64_t nanoseconds_per_tick = 100;
constexpr uint64_t local_apic_address = 0xfee0'0000;
constexpr uint32_t first_synthetic_msr = 0x4000'0000;  // TLFS, "Synthetic MSRs"
constexpr uint32_t synthetic_msr_count = 0x200;
constexpr uint32_t first_apic_msr = 0x4000'0070;  // EOI, ICR, TPR, VP assist page
constexpr uint32_t last_apic_msr = 0x4000'0073;

constexpr uint8_t all_lines = 0xff;               // of an 8259's mask
constexpr uint8_t hardware_triggered_strobe = 5;  // Intel 8254, "Mode Definitions"

kvm_irq_routing_entry pin_route(uint32_t pin) {
  kvm_irq_routing_entry entry{};
  entry.gsi = pin;
  entry.type = KVM_IRQ_ROUTING_IRQCHIP;
  entry.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = pin};
  return entry;
}

// Fixed, edge triggered, to one local APIC by its number: Intel SDM 3A, 11.11 "Message Signalled
// Interrupts".
kvm_irq_routing_entry message_route(uint32_t number, unsigned processor, uint8_t vector) {
  kvm_irq_routing_entry entry{};
  entry.gsi = number;
  entry.type = KVM_IRQ_ROUTING_MSI;
  entry.u.msi.address_lo = uint32_t(local_apic_address | uint64_t{processor} << 12);
  entry.u.msi.data = vector;
  return entry;
}

}  // namespace

Result<std::unique_ptr<VirtualMachine>> VirtualMachine::create(const Kvm& kvm,
                                                               const GuestRam& ram) {
  TRY_LET(auto machine, create_bare(kvm, ram));
  TRY(machine->add_interrupt_controllers());
  TRY(machine->take_registers());
  return machine;
}

Result<std::unique_ptr<VirtualMachine>> VirtualMachine::create_bare(const Kvm& kvm,
                                                                    const GuestRam& ram) {
  TRY_LET(const int number, control(kvm.descriptor(), KVM_CREATE_VM, "KVM_CREATE_VM"));
  std::unique_ptr<VirtualMachine> machine(new VirtualMachine(kvm, Descriptor(number)));
  TRY(machine->add_memory(ram));
  TRY(machine->give_own_pages());
  return machine;
}

Result<void> VirtualMachine::add_memory(const GuestRam& ram) const {
  uint32_t slot = 0;
  for (const GuestRam::Region& region : ram.regions()) {
    kvm_userspace_memory_region memory{.slot = slot++,
                                       .flags = 0,
                                       .guest_phys_addr = region.address,
                                       .memory_size = region.byte_count,
                                       .userspace_addr = reinterpret_cast<uintptr_t>(region.bytes)};
    TRY(control(descriptor_.number(), KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION",
                &memory));
  }
  return {};
}

Result<void> VirtualMachine::give_own_pages() const {
  uint64_t identity_map = identity_map_address;
  TRY(control(descriptor_.number(), KVM_SET_IDENTITY_MAP_ADDR, "KVM_SET_IDENTITY_MAP_ADDR",
              &identity_map));
  TRY(control(descriptor_.number(), KVM_SET_TSS_ADDR, "KVM_SET_TSS_ADDR",
              static_cast<unsigned long>(tss_address)));
  return {};
}

Result<void> VirtualMachine::add_interrupt_controllers() const {
  TRY(control(descriptor_.number(), KVM_CREATE_IRQCHIP, "KVM_CREATE_IRQCHIP"));
  return {};
}

Result<void> VirtualMachine::take_registers() const {
  kvm_enable_cap to_us{};
  to_us.cap = KVM_CAP_X86_USER_SPACE_MSR;
  to_us.args[0] =
      KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
  TRY(control(descriptor_.number(), KVM_ENABLE_CAP, "KVM_CAP_X86_USER_SPACE_MSR", &to_us));
  // A bit that is clear takes the register away from KVM's own emulation.
  std::array<uint8_t, synthetic_msr_count / 8> left{};
  for (uint32_t index = first_apic_msr; kvm_.has_eoi_assist() && index <= last_apic_msr; ++index) {
    const uint32_t bit = index - first_synthetic_msr;
    left[bit / 8] |= uint8_t(1 << bit % 8);
  }
  kvm_msr_filter filter{};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  filter.ranges[0] = {.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                      .nmsrs = synthetic_msr_count,
                      .base = first_synthetic_msr,
                      .bitmap = left.data()};
  TRY(control(descriptor_.number(), KVM_X86_SET_MSR_FILTER, "KVM_X86_SET_MSR_FILTER", &filter));
  return {};
}

Result<std::unique_ptr<Processor>> VirtualMachine::create_processor(unsigned index) const {
  return Processor::create(kvm_, descriptor_.number(), index);
}

Result<bool> VirtualMachine::start_clock() const {
  // Only setting it makes the kernel look at the processors' counters before they run.
  kvm_clock_data data{};
  TRY(control(descriptor_.number(), KVM_SET_CLOCK, "KVM_SET_CLOCK", &data));
  TRY(control(descriptor_.number(), KVM_GET_CLOCK, "KVM_GET_CLOCK", &data));
  return (data.flags & KVM_CLOCK_TSC_STABLE) != 0;
}

uint64_t VirtualMachine::clock_ticks() const {
  kvm_clock_data data{};
  const auto asked = control(descriptor_.number(), KVM_GET_CLOCK, "KVM_GET_CLOCK", &data);
  assert(asked);
  return data.clock / nanoseconds_per_tick;
}

Result<void> VirtualMachine::set_clock(uint64_t ticks) const {
  kvm_clock_data data{};
  data.clock = ticks * nanoseconds_per_tick;
  TRY(control(descriptor_.number(), KVM_SET_CLOCK, "KVM_SET_CLOCK", &data));
  return {};
}

Result<void> VirtualMachine::mask_8259s() const {
  for (const uint32_t number : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE}) {
    kvm_irqchip chip{};
    chip.chip_id = number;
    TRY(control(descriptor_.number(), KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP", &chip));
    chip.chip.pic.imr = all_lines;
    TRY(control(descriptor_.number(), KVM_SET_IRQCHIP, "KVM_SET_IRQCHIP", &chip));
  }
  return {};
}

// --- the timer of firmware ---

Result<void> VirtualMachine::add_timer() const {
  kvm_pit_config timer{};
  timer.flags = KVM_PIT_SPEAKER_DUMMY;
  const auto added = control(descriptor_.number(), KVM_CREATE_PIT2, "KVM_CREATE_PIT2", &timer);
  if (!added)
    return fail(Errc::unsupported,
                "this KVM has no timer for a disk's own boot loader: " + added.error().message);
  return {};
}

Result<void> VirtualMachine::retire_timer(uint8_t firmware_vector) const {
  kvm_irqchip master{};
  master.chip_id = KVM_IRQCHIP_PIC_MASTER;
  TRY(control(descriptor_.number(), KVM_GET_IRQCHIP, "KVM_GET_IRQCHIP", &master));
  if (master.chip.pic.irq_base != firmware_vector) return {};
  master.chip.pic.imr = all_lines;
  master.chip.pic.irr = master.chip.pic.isr = 0;
  TRY(control(descriptor_.number(), KVM_SET_IRQCHIP, "KVM_SET_IRQCHIP", &master));
  kvm_pit_state2 timer{};
  TRY(control(descriptor_.number(), KVM_GET_PIT2, "KVM_GET_PIT2", &timer));
  // Begins when its gate rises, and nothing raises that.
  timer.channels[0].mode = hardware_triggered_strobe;
  TRY(control(descriptor_.number(), KVM_SET_PIT2, "KVM_SET_PIT2", &timer));
  return {};
}

// --- interrupts ---

Result<int> VirtualMachine::pin_event(uint32_t pin) {
  const std::lock_guard lock(mutex_);
  TRY_LET(Descriptor event, connect_interrupt(pin));
  const int number = event.number();
  pins_.insert_or_assign(pin, std::move(event));
  return number;
}

Result<int> VirtualMachine::message_event(uint32_t route, unsigned processor, uint8_t vector) {
  const std::lock_guard lock(mutex_);
  Route& known = routes_[route];
  known.processor = processor;
  known.vector = vector;
  TRY(set_routes());
  if (!known.event.is_open()) {
    TRY_LET(known.event, connect_interrupt(io_apic_pins + route));
  }
  return known.event.number();
}

Result<void> VirtualMachine::set_routes() {
  std::vector<kvm_irq_routing_entry> entries;
  for (uint32_t pin = 0; pin < io_apic_pins; ++pin) entries.push_back(pin_route(pin));
  for (const auto& [number, route] : routes_)
    entries.push_back(message_route(io_apic_pins + number, route.processor, route.vector));
  using List = CountedList<kvm_irq_routing_entry>;
  List list(entries);
  TRY(control(descriptor_.number(), List::request(KVM_SET_GSI_ROUTING), "KVM_SET_GSI_ROUTING",
              list.data()));
  return {};
}

Result<Descriptor> VirtualMachine::connect_interrupt(uint32_t number) const {
  Descriptor event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.is_open()) return fail_errno(errno, "an eventfd");
  kvm_irqfd connection{};
  connection.fd = uint32_t(event.number());
  connection.gsi = number;
  TRY(control(descriptor_.number(), KVM_IRQFD, "KVM_IRQFD", &connection));
  return event;
}

// --- signals ---

Result<void> VirtualMachine::connect_signal(uint16_t port, uint32_t value, int event) {
  return change_signal(port, value, event, true);
}

Result<void> VirtualMachine::disconnect_signal(uint16_t port, uint32_t value, int event) {
  return change_signal(port, value, event, false);
}

Result<void> VirtualMachine::change_signal(uint16_t port, uint32_t value, int event,
                                           bool is_connected) const {
  kvm_ioeventfd connection{};
  connection.datamatch = value;
  connection.addr = port;
  connection.len = sizeof value;
  connection.fd = event;
  connection.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH |
                     (is_connected ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN);
  TRY(control(descriptor_.number(), KVM_IOEVENTFD, "KVM_IOEVENTFD", &connection));
  return {};
}

}  // namespace vhdkit::hypervisor
