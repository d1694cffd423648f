// The SMBIOS tables: what machine this says it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vhdkit::hypervisor {

// Entry point and structures one behind the other, as they have to lie at this guest physical
// address. Guests look for the entry point at multiples of 16 from F0000h to FFFFFh. The system is
// named as Hyper-V names its own, by which guests know what drivers and agents they want; there is
// no more in it than BIOS, system, enclosure and boot status.
//
// REQUIRES: address is a multiple of 16, below 4 GiB.
// Spec: DMTF DSP0134 2.8.
std::vector<std::byte> smbios_tables(uint64_t address);

}  // namespace vhdkit::hypervisor
