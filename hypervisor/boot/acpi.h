// The ACPI tables of the machine of platform.h: hardware-reduced, with a VMBus and a serial port.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vhdkit::hypervisor {

// RSDP, DSDT, FADT, MADT, RSDT and XSDT one behind the other, as they have to lie at this guest
// physical address, where the RSDP then is. Less than 64 KiB.
//
// REQUIRES: address is a multiple of 16, below 4 GiB; 1 <= vp_count <= platform::max_vp_count.
// Spec: ACPI 6.5, 4.1 "Hardware-Reduced ACPI" and 5.2.
std::vector<std::byte> acpi_tables(uint64_t address, unsigned vp_count);

}  // namespace vhdkit::hypervisor
