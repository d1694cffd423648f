#include "hypervisor/boot/zero_page.h"

#include <cassert>
#include <utility>

namespace vhdkit::hypervisor {

Result<void> write_zero_page(GuestRam& ram, linux_boot::BootParams params, const Handover& handover,
                             uint64_t kernel_address, uint64_t initrd_address) {
  linux_boot::SetupHeader& header = params.header;
  header.type_of_loader = linux_boot::undefined_loader;
  header.video_mode = linux_boot::normal_video_mode;
  header.code32_start = uint32_t(kernel_address);
  header.ramdisk_image = uint32_t(initrd_address);
  header.ramdisk_size = uint32_t(handover.initrd.size());
  header.command_line_address = uint32_t(command_line_address);
  header.setup_data = uint64_t{0};
  params.rsdp_address = handover.rsdp_address;
  assert(handover.memory_map.size() <= params.e820.size());
  params.e820_entry_count = uint8_t(handover.memory_map.size());
  for (size_t i = 0; i < handover.memory_map.size(); ++i) {
    const MemoryRange& range = handover.memory_map[i];
    params.e820[i] = {.address = range.address,
                      .byte_count = range.byte_count,
                      .type = std::to_underlying(range.type)};
  }
  return ram.write(boot_data_address, bytes_of(params));
}

}  // namespace vhdkit::hypervisor
