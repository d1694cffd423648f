// The page that Linux finds in rsi: its own header back, and what it is told of the machine.
#pragma once

#include "hypervisor/boot/boot_params.h"
#include "hypervisor/boot/handover.h"

namespace vhdkit::hypervisor {

// Puts it at boot_data_address. params: zeroes and the kernel's own header. kernel_address: where
// the kernel was loaded; initrd_address: where its initrd was, or 0.
Result<void> write_zero_page(GuestRam& ram, linux_boot::BootParams params, const Handover& handover,
                             uint64_t kernel_address, uint64_t initrd_address);

}  // namespace vhdkit::hypervisor
