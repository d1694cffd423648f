// The machine that a guest finds: the addresses, ports and interrupts that the ACPI tables (acpi.h)
// tell it, and that devices/, kvm/ and hyperv/ answer at.
#pragma once

#include <cstdint>

namespace vhdkit::hypervisor::platform {

// --- I/O ports, each of one byte unless said otherwise ---

// A 16550 with 8 ports; an edge on its line.
inline constexpr uint16_t com1_port = 0x3f8;
inline constexpr uint16_t com1_port_count = 8;
inline constexpr uint32_t com1_irq = 4;

// The real-time clock's index and data. ACPI says that there is none, and Linux reads it all the
// same: all ones would look to it like an update that never ends.
inline constexpr uint16_t rtc_index_port = 0x70;
inline constexpr uint16_t rtc_data_port = 0x71;

// ACPI 6.5, 4.8.3.7 "Sleep Control and Status Registers": a write of the control register with
// sleep_enable and the type of \_S5 (bits 2 to 4) powers the machine off. Of the status register a
// guest writes bit 7 (wake status) to clear it, and polls it after it has slept; it reads as 0.
inline constexpr uint16_t sleep_control_port = 0x600;
inline constexpr uint16_t sleep_status_port = 0x601;
inline constexpr uint8_t sleep_enable = 1 << 5;
inline constexpr unsigned sleep_type_shift = 2;
inline constexpr uint8_t sleep_type_mask = 7 << sleep_type_shift;
inline constexpr uint8_t sleep_type_soft_off = 5;  // \_S5 of dsdt.asl

// FADT's RESET_REG: this value, written here, resets the machine.
inline constexpr uint16_t reset_port = 0x604;
inline constexpr uint8_t reset_value = 0x06;

// The keyboard controller's command port, of which nothing else is there: 0xfe pulses the
// processor's reset line. The code at reset_vector does it, and Linux where told to (reboot=kbd).
inline constexpr uint16_t keyboard_command_port = 0x64;
inline constexpr uint8_t keyboard_pulse_reset = 0xfe;

// "System control port A" of a PS/2: bit 1 opens the A20 line, and reads as set since that is
// always open; setting bit 0 pulses the processor's reset line.
inline constexpr uint16_t system_control_port = 0x92;
inline constexpr uint8_t system_control_reset = 1 << 0;
inline constexpr uint8_t system_control_a20 = 1 << 1;

// --- guest physical addresses ---

inline constexpr uint64_t local_apic_address = 0xfee0'0000;
inline constexpr uint64_t io_apic_address = 0xfec0'0000;

// F000:FFF0, where a processor begins after a reset, and where Linux jumps to in real mode to
// reboot a hardware-reduced machine without EFI. RAM: memory_map.h puts code there.
inline constexpr uint64_t reset_vector = 0xf'fff0;

// Where the guest may place the memory of VMBus devices (a frame buffer, PCI), by VMOD's _CRS in
// dsdt.asl. The low one lies in the gap of kvm/guest_ram.h, below the I/O APIC; the high one above
// all RAM that a guest may have, and inside the 39 bits that the smallest processors address.
inline constexpr uint64_t low_mmio_address = 0xf800'0000;
inline constexpr uint64_t low_mmio_bytes = 0x0400'0000;
inline constexpr uint64_t high_mmio_address = 0x7f'e000'0000;
inline constexpr uint64_t high_mmio_bytes = 0x2000'0000;

// --- processors ---

// Local APIC ids are 0 to vp_count - 1, and the first processor has 0.
inline constexpr unsigned max_vp_count = 32;

}  // namespace vhdkit::hypervisor::platform
